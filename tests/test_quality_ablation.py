"""The seam that leaves parts of the default out does that, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.bench.quality.runs import Job
from pipeline.bench.quality.streams import given
from streamnn.pool import values, votes
from streamnn.pool.layout import Layout
from tests.benchmarks.quality.ablation import (
    ABLATIONS,
    COUNTING,
    FITTED,
    LABEL_NETWORKS,
    NETWORKS,
    VALUE_NETWORKS,
    Ablation,
    columns,
    kept,
    recorded_rows,
    without,
)
from tests.benchmarks.quality.runs import run


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The default on 250 events of three classes, the third of which comes late."""
    x = np.random.default_rng(8).normal(size=(250, 3))
    way = np.where(x[:, 0] > 0.7, "c", np.where(x[:, 0] * x[:, 1] > 0, "a", "b"))
    way[:100][way[:100] == "c"] = "a"
    path = tmp_path_factory.mktemp("stream") / "three.csv"
    path.write_text(
        "p,q,r,way\n" + "".join(f"{a:.4f},{b:.4f},{c:.4f},{w}\n" for (a, b, c), w in zip(x, way, strict=True))
    )
    return Job("best", given(f"{path} --target way"), 250, 0)


def test_nothing_left_out_is_the_default(job):
    """Through the seam, with nothing left out, every figure is that of the default, bit for bit."""
    whole = run(job)
    with without(Ablation()):
        again = run(job)
    for name in ("accuracy", "log_loss", "windows"):
        assert again[name] == whole[name]


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """The default on 250 events of a value with a category, and of three labels; by task."""
    random = np.random.default_rng(8)
    x, kind, folder = random.normal(size=(250, 3)), random.choice(list("uvw"), 250), tmp_path_factory.mktemp("others")
    values = np.cumsum(x[:, 0]) + (kind == "u") + random.normal(size=250)
    rows = [f"{a:.4f},{b:.4f},{k},{y:.4f}\n" for (a, b, _), k, y in zip(x, kind, values, strict=True)]
    (folder / "value.csv").write_text("p,q,kind,y\n" + "".join(rows))
    labels = (x + random.normal(size=(250, 3)) > 0.3).astype(int)
    rows = [f"{a:.4f},{b:.4f},{c:.4f},{r},{s},{t}\n" for (a, b, c), (r, s, t) in zip(x, labels, strict=True)]
    (folder / "labels.csv").write_text("p,q,o,r,s,t\n" + "".join(rows))
    value, sets = f"{folder / 'value.csv'} --target y", f"{folder / 'labels.csv'} --targets-last 3"
    return {
        "regression": Job("best", given(value), 250, 0),
        "multilabel": Job("best", given(sets), 250, 0),
    }


def test_each_part_that_is_left_out_changes_predictions(job):
    """Each ablation reaches the pool, and no two are the same."""
    losses = {"best": run(job)["log_loss"]}
    for name in ABLATIONS["classification"]:
        losses[name] = run(replace(job, learner=name))["log_loss"]
    assert len(set(losses.values())) == len(losses), losses


@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_each_part_of_other_pools_changes_predictions(others, task):
    """Likewise of pools for values and for label sets; with nothing left out they are the default."""
    whole = run(others[task])
    with without(Ablation()):
        assert run(others[task])["windows"] == whole["windows"]
    found = {name: run(replace(others[task], learner=name))["windows"] for name in ABLATIONS[task]}
    assert len({str(windows) for windows in [whole["windows"], *found.values()]}) == len(found) + 1, found


def test_every_member_is_left_out_by_one():
    """Each name that an ablation leaves out is a member's, and every member is left out by one."""
    pools = {
        "classification": (*COUNTING, *NETWORKS),
        "regression": (*values.member_names(2), *FITTED, *VALUE_NETWORKS),
        "multilabel": (*votes.MEMBERS, *LABEL_NETWORKS),
    }
    for task, members in pools.items():
        left = [set(range(len(members))) - {*kept(ablation, members)} for ablation in ABLATIONS[task].values()]
        assert set().union(*left) == set(range(len(members))), task
        assert all(gone for gone, ablation in zip(left, ABLATIONS[task].values(), strict=True) if ablation.members)


def test_rows_are_those_that_members_read(job):
    """A row an event, in which the columns of each map lie where the ablation looks for them."""
    with recorded_rows() as found:
        run(job)
    assert sum(map(len, found)) == 250
    rows = found[-1]
    layout = Layout(3, 0, 4, targets=True)  # room for classes doubles
    assert rows.shape[1] == layout.width
    waves, target = rows[:, columns(layout, "waves")], rows[:, columns(layout, "target")]
    np.testing.assert_allclose(waves[:, :3], np.sin(rows[:, :3]), atol=1e-5)
    np.testing.assert_allclose(waves[:, 9:], np.cos(2 * rows[:, :3]), atol=1e-5)
    assert target.shape[1] == 3 * 4
    assert np.abs(target[-50:]).max() <= np.float32(0.7 * 3)
    assert len(np.unique(target[-50:])) > 50


def test_a_tree_learns_on_the_rows(job, tmp_path):
    """River's tree on the default's feature maps gets every event and learns; where columns move it is refused."""
    x = np.random.default_rng(8).normal(size=(200, 2))
    (tmp_path / "two.csv").write_text("p,q,way\n" + "".join(f"{a:.4f},{b:.4f},{'ud'[int(a > 0)]}\n" for a, b in x))
    result = run(Job("hat_on_maps", given(f"{tmp_path / 'two.csv'} --target way"), 200, 0))
    assert result["events"] == 200
    assert result["accuracy"] > 0.7
    with pytest.raises(ValueError, match="takes two classes"):
        run(replace(job, learner="hat_on_maps"))
