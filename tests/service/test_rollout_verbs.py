"""What people ask of a rollout while others do, too, or the folder is not what they think it is."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from cascade.config import Config
from cascade.demo.bundle_copies import copy_bundle
from cascade.errors import BundleError, RolloutRefused
from cascade.pointer import point_to, serving_version
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.state import GUARD, Event
from cascade.rollout.verbs import Verbs
from cascade.traffic import open_store
from tests.conftest import NODE


@dataclass
class Desk:
    """Verbs on a store, a stable bundle, a newer one, and what somebody else does just before a write."""

    verbs: Verbs
    old: str
    new: str
    models: Path
    now: list[float]
    between: list[Callable[[], Any]] = field(default_factory=list)

    def by_guard(self, what: Any, bundle: str, **data: Any) -> None:
        seq = self.verbs.state(NODE).seq + 1
        assert self.verbs.store.append(Event(NODE, seq, self.now[0], GUARD, what, "audits", bundle, data))

    def told(self) -> list[tuple[str, str, str]]:
        return [(e.who, e.what, e.bundle) for e in self.verbs.history(NODE)]


@pytest.fixture
def desk(models: Path, configure: Callable[..., Config], tmp_path: Path) -> Iterator[Desk]:
    store = open_store(f"sqlite:///{tmp_path}/traffic.db")
    shared, now = DatabaseRolloutStore(store), [1_000_000.0]
    old = next((models / NODE).glob("0001-*"))
    verbs = Verbs(configure(), shared, lambda: now[0])
    made = Desk(verbs, old.name, copy_bundle(old, 2), models / NODE, now)
    append = shared.append

    def late(event: Event) -> bool:
        if made.between:
            made.between.pop()()
        return append(event)

    shared.append = late  # type: ignore[method-assign]
    yield made
    store.close()


def test_of_two_rollbacks_at_once_the_second_leaves_the_stable_bundle_alone(desk: Desk) -> None:
    desk.verbs.start(NODE, "ada", bundle=desk.new, percent=5)
    desk.between.append(lambda: desk.verbs.rollback(NODE, "bob", "wrong refunds"))
    state = desk.verbs.rollback(NODE, "cleo", "too slow")
    assert state.barred == {desk.new: "wrong refunds"}
    assert state.stable(desk.old) == desk.old
    assert [who for who, *_ in desk.told()] == ["ada", "bob"]
    assert desk.verbs.describe(NODE)["who"] == "bob"


def test_of_two_rollbacks_of_the_stable_bundle_at_once_the_second_leaves_the_one_before(desk: Desk) -> None:
    desk.verbs.start(NODE, "ada", bundle=desk.new, percent=100)
    desk.between.append(lambda: desk.verbs.rollback(NODE, "bob"))
    assert set(desk.verbs.rollback(NODE, "cleo").barred) == {desk.new}


def test_a_rollback_keeps_its_target_where_the_candidate_is_completed_or_another_begins(desk: Desk) -> None:
    desk.verbs.start(NODE, "ada", bundle=desk.new, percent=25)
    desk.between.append(lambda: desk.by_guard("promote", desk.new, step=3))
    assert set(desk.verbs.rollback(NODE, "bob").barred) == {desk.new}, "it was stable by then"
    third = copy_bundle(desk.models / desk.old, 3)
    desk.now[0] += 3600
    desk.between.append(lambda: desk.verbs.start(NODE, "ada", bundle=third, percent=5))
    assert set(desk.verbs.rollback(NODE, "cleo").barred) == {desk.new, desk.old}
    assert desk.verbs.state(NODE).candidate == third


@pytest.mark.parametrize("who", ["bob", GUARD])
def test_a_rollback_just_after_another_asks_for_the_bundle_instead_of_taking_the_stable_one(
    desk: Desk, who: str
) -> None:
    desk.verbs.start(NODE, "ada", bundle=desk.new, percent=5)
    desk.by_guard("rollback", desk.new)
    if who == "bob":
        desk.verbs.start(NODE, "ada", bundle=desk.new, percent=5, force=True)
        desk.verbs.rollback(NODE, who, "audits")
    desk.by_guard("fence", desk.old, n=900, p_value=1e-9, level=0.01)
    desk.now[0] += 590
    before = desk.told()
    with pytest.raises(RolloutRefused) as caught:
        desk.verbs.rollback(NODE, "cleo")
    assert f"{who} rolled {desk.new} back at 1970-01-12 13:46:40Z (audits)" in str(caught.value)
    assert f"to take the stable bundle out as well say --bundle {desk.old}" in str(caught.value)
    assert desk.told() == before
    assert set(desk.verbs.rollback(NODE, "cleo", bundle=desk.old).barred) == {desk.new, desk.old}


def test_long_after_a_rollback_and_without_any_the_stable_bundle_is_pulled_back(desk: Desk) -> None:
    desk.verbs.start(NODE, "ada", bundle=desk.new, percent=100)
    assert set(desk.verbs.rollback(NODE, "script").barred) == {desk.new}
    later = replace(desk.verbs, clock=lambda: desk.now[0] + 601)
    assert set(later.rollback(NODE, "script").barred) == {desk.new, desk.old}
    with pytest.raises(RolloutRefused, match="there is nothing to roll back"):
        desk.verbs.rollback(NODE, "script")
    with pytest.raises(RolloutRefused, match="was rolled back before"):
        desk.verbs.rollback(NODE, "script", bundle=desk.new)


@pytest.mark.parametrize("force", [True, False])
def test_of_two_approvals_at_once_one_goes_a_step_and_the_other_is_told(desk: Desk, force: bool) -> None:
    desk.verbs.start(NODE, "ada", bundle=desk.new, percent=5, approval="manual")
    desk.by_guard("promote", desk.new, step=2)
    desk.between.append(lambda: desk.verbs.approve(NODE, "bob", "looks good", force))
    with pytest.raises(RolloutRefused) as caught:
        desk.verbs.approve(NODE, "cleo", force=force)
    said = f"somebody changed it meanwhile: approve of {desk.new} by bob (looks good)"
    assert said in str(caught.value)
    assert desk.verbs.describe(NODE)["percent"] == 25
    assert [who for who, what, _ in desk.told() if what == "approve"] == ["bob"]


def test_an_approval_does_not_overrule_what_came_meanwhile_unless_that_leaves_it_where_it_is(
    desk: Desk,
) -> None:
    desk.verbs.start(NODE, "ada", bundle=desk.new, percent=1)
    changes: list[tuple[Callable[[], Any], str]] = [
        (lambda: desk.by_guard("promote", desk.new, step=1), "promote of 0002-.* by guard"),
        (lambda: desk.verbs.hold(NODE, "bob"), "hold of 0002-.* by bob"),
        (lambda: desk.by_guard("rollback", desk.new), "rollback of 0002-.* by guard"),
    ]
    for change, said in changes:
        desk.between.append(change)
        with pytest.raises(RolloutRefused, match=said):
            desk.verbs.approve(NODE, "cleo", force=True)
    desk.verbs.start(NODE, "ada", bundle=desk.new, percent=1, approval="manual", force=True)
    desk.between.append(lambda: desk.by_guard("promote", desk.new, step=1))  # it waits now, at the same step
    desk.verbs.approve(NODE, "cleo", force=True)
    assert desk.verbs.describe(NODE)["percent"] == 5


def test_whoever_completes_a_rollout_moves_the_pointer_and_nobody_else(desk: Desk) -> None:
    def pointer() -> str | None:
        return serving_version(desk.models.parent, NODE)

    desk.verbs.start(NODE, "ada", bundle=desk.new, percent=25)
    assert pointer() == desk.old
    desk.verbs.approve(NODE, "ada", force=True)
    assert pointer() == desk.new
    third = copy_bundle(desk.models / desk.old, 3)
    desk.verbs.start(NODE, "ada", bundle=third, percent=100)
    assert pointer() == third, "a report is about what serves everybody"


def test_a_rollback_refuses_a_version_that_nobody_knows_and_takes_one_whose_folder_is_gone(
    desk: Desk,
) -> None:
    for version in ("0009-typo", "../other", "serving", "."):
        with pytest.raises(RolloutRefused, match=r"is no bundle of node .* there are: 0001-"):
            desk.verbs.rollback(NODE, "ada", bundle=version)
    assert desk.told() == []
    desk.verbs.start(NODE, "ada", bundle=desk.new, percent=5)
    point_to(desk.models.parent, NODE, "0005-pointed")
    shutil.rmtree(desk.models / desk.new)
    shutil.rmtree(desk.models / desk.old)
    copy = "0007-a-folder"
    (desk.models / copy).mkdir()
    for version in (desk.new, desk.old, "0005-pointed", copy):
        assert version in desk.verbs.rollback(NODE, "ada", bundle=version).barred


@pytest.mark.parametrize("force", [True, False])
def test_an_approval_takes_a_bundle_that_is_gone_no_further(desk: Desk, force: bool) -> None:
    desk.verbs.start(NODE, "ada", bundle=desk.new, percent=25, approval="manual")
    desk.by_guard("promote", desk.new, step=3)
    shutil.rmtree(desk.models / desk.new)
    with pytest.raises(BundleError, match="is missing"):
        desk.verbs.approve(NODE, "ada", force=force)
    assert desk.verbs.describe(NODE)["percent"] == 25
    desk.verbs.hold(NODE, "ada")
    assert desk.verbs.approve(NODE, "ada").candidate == desk.new, "it stays where it is"
