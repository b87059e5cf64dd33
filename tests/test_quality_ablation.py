"""The seam that leaves parts of the default out does that, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.bench.quality.runs import Job
from pipeline.bench.quality.streams import given
from streamnn.pool.layout import Layout
from tests.benchmarks.quality.ablation import ABLATIONS, COUNTING, NETWORKS, Ablation, columns, recorded_rows, without
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


def test_each_part_that_is_left_out_changes_predictions(job):
    """Each ablation reaches the pool, and no two are the same."""
    losses = {"best": run(job)["log_loss"]}
    for name, ablation in ABLATIONS.items():
        with without(ablation):
            losses[name] = run(job)["log_loss"]
    assert len(set(losses.values())) == len(losses), losses


def test_names_are_those_of_members():
    """Each name that an ablation leaves out is a member's, and every kind of member is left out by one."""
    named = {member for ablation in ABLATIONS.values() for member in ablation.members}
    assert named == {*COUNTING, *NETWORKS}


def test_rows_are_those_that_members_read(job):
    """A row an event, in which the columns of each map lie where the ablation looks for them."""
    with recorded_rows() as found:
        run(job)
    assert sum(map(len, found)) == 250
    rows = found[-1]
    layout = Layout(3, 0, 4, targets=True)  # room for classes doubles
    assert rows.shape[1] == layout.width
    waves, votes = rows[:, columns(layout, "waves")], rows[:, columns(layout, "votes")]
    np.testing.assert_allclose(waves[:, :3], np.sin(rows[:, :3]), atol=1e-5)
    np.testing.assert_allclose(waves[:, 9:], np.cos(2 * rows[:, :3]), atol=1e-5)
    assert set(np.unique(votes[-50:, :3])) == {-1, 1}  # of the nearest one


def test_a_tree_learns_on_the_rows(job, tmp_path):
    """River's tree on the default's feature maps gets every event and learns; where columns move it is refused."""
    x = np.random.default_rng(8).normal(size=(200, 2))
    (tmp_path / "two.csv").write_text("p,q,way\n" + "".join(f"{a:.4f},{b:.4f},{'ud'[int(a > 0)]}\n" for a, b in x))
    result = run(Job("hat_on_maps", given(f"{tmp_path / 'two.csv'} --target way"), 200, 0))
    assert result["events"] == 200
    assert result["accuracy"] > 0.7
    with pytest.raises(ValueError, match="takes two classes"):
        run(replace(job, learner="hat_on_maps"))
