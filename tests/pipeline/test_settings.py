"""Settings from file, environment and `--set`: who wins, and what a wrong one is answered."""

import pytest

from pipeline.config import Config
from pipeline.settings import Given, SettingsError, describe, plain, read_settings


def file(tmp_path, text):
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_later_places_win(tmp_path):
    """A flag wins over --set, that over the environment, that over the file, that over the default."""
    path = file(tmp_path, "seed = 1\n[optimizer]\nrate = 0.1\n[mode]\nbatch = 4\n[scores]\nwindow = 7\n")
    config = read_settings(
        Config,
        path,
        environ={"STREAMNN_SEED": "2", "STREAMNN_OPTIMIZER__RATE": "0.2", "STREAMNN_MODE__BATCH": "8"},
        overrides=["optimizer.rate=0.3", "mode.batch=16"],
        given={"mode.batch": Given(32, "--mode")},
    )
    assert (config.scores.window, config.seed, config.optimizer.rate, config.mode.batch) == (7, 2, 0.3, 32)
    assert config.stream.delimiter == ","


def test_text_is_read_as_its_key_expects():
    """Words for strings, commas or TOML for lists, tables entry by entry."""
    config = read_settings(
        Config,
        None,
        overrides=[
            "stream.targets=a, b",
            "network.units=[32,16]",
            "network.activation=gelu",
            "network.skip=false",
            "stream.source='a file.csv'",
            "stream.kinds.hour=category",
            "stream.kinds.day of week=category",
            "optimizer.options={beta1 = 0.5}",
            "labels.delay_s=3",
        ],
    )
    assert config.stream.targets == ("a", "b")
    assert config.network.units == (32, 16)
    assert config.network.activation == "gelu"
    assert config.network.skip is False
    assert config.stream.source == "a file.csv"
    assert config.stream.kinds == {"hour": "category", "day of week": "category"}
    assert config.optimizer.options == {"beta1": 0.5}
    assert config.labels.delay_s == 3.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[optimiser]\nrate = 1.0", r"config\.toml: unknown key optimiser\.rate\. Did you mean optimizer\.rate\?"),
        ("[optimizer]\nrat = 1.0", r"unknown key optimizer\.rat\. Did you mean optimizer\.rate\?"),
        ("[mode]\nbatch = 0", r"config\.toml: mode\.batch is 0, expected an integer of at least 1"),
        ("[mode]\nbatch = 1.5", r"mode\.batch is 1\.5, expected an integer"),
        ("[mode]\nbatch = true", r"mode\.batch is True, expected an integer"),
        ("[network]\nunits = 64", r"network\.units is 64, expected a list of integers"),
        ("[network]\nunits = ['a']", r"network\.units is 'a', expected an integer"),
        ("[network]\nactivation = 'relo'", r"expected one of relu, .*Did you mean relu\?"),
        ("[telemetry]\nport = 70000", r"telemetry\.port is 70000, expected an integer from 0 to 65535"),
        ("[optimizer.options]\nbeta1 = 'x'", r"optimizer\.options\.beta1 is 'x', expected a number"),
        ("seed = nan", r"seed is nan, expected an integer"),
        ("[optimizer]\nrate = nan", r"optimizer\.rate is nan, expected a number of at least 0"),
        ("seed = ", r"config\.toml: is not TOML"),
        ("network = 3", r"config\.toml: network is a section: write \[network\]"),
    ],
)
def test_wrong_settings_name_place_key_value_and_expectation(tmp_path, text, message):
    """Every wrong setting is one message that tells how to mend it."""
    with pytest.raises(SettingsError, match=message):
        read_settings(Config, file(tmp_path, text))


def test_wrong_places_are_named(tmp_path):
    """A missing file, an unknown variable and a malformed --set say where they come from."""
    with pytest.raises(SettingsError, match=r"nowhere\.toml: cannot be read: No such file"):
        read_settings(Config, tmp_path / "nowhere.toml")
    with pytest.raises(SettingsError, match=r"STREAMNN_NETWORK__UNIT: unknown key network\.unit\. Did you mean"):
        read_settings(Config, None, environ={"STREAMNN_NETWORK__UNIT": "3"})
    with pytest.raises(SettingsError, match=r"--set rate: expected section\.key=value"):
        read_settings(Config, None, overrides=["rate"])
    with pytest.raises(SettingsError, match=r"--set: mode\.batch is 'many', expected an integer"):
        read_settings(Config, None, overrides=["mode.batch=many"])


def test_other_variables_of_the_same_prefix_are_left_alone():
    """STREAMNN_DATA and the like are not settings."""
    assert read_settings(Config, None, environ={"STREAMNN_DATA": "/x", "PATH": "/bin"}) == Config()


def test_every_setting_is_documented():
    """Each key has a meaning and an expectation, and its default is among what it expects."""
    keys = describe(Config)
    assert len({d.key for d in keys}) == len(keys) > 40
    for d in keys:
        assert d.doc
        assert d.expects
    nested = plain(Config())
    assert nested["network"]["units"] == [64]
