"""What holds for every policy and cost rule: each class of the room, each option of conf/, and one from elsewhere."""

import importlib
import inspect
import json
import pkgutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import promptroute.routing
from promptroute.core.component import Component, build
from promptroute.core.errors import UserError
from promptroute.routing.base import Candidates, Policy, Training, restore
from promptroute.routing.costs import CostRule, Facts
from promptroute.routing.policies import CostAware

from .instances import simulated

CONF = Path(__file__).parents[2] / "conf"
Compose = Callable[..., dict[str, Any]]
NAMES = ("a", "b", "c", "d")
NEEDED: dict[str, dict[str, Any]] = {
    "Flops": {"price_per_petaflop": 0.005},
    "PricePerImage": {"prices": dict.fromkeys(NAMES, 0.01)},
}
"""Settings that a class has no default for."""
FACTS = {
    name: Facts(seconds=1.0 + place, measured_seconds=2.0, memory_gb=3.5, gflops=100.0)
    for place, name in enumerate(NAMES)
}


def classes(kind: type[Any]) -> list[type[Any]]:
    """Every concrete class of a kind in the room."""
    found = []
    for module in pkgutil.iter_modules(promptroute.routing.__path__, "promptroute.routing."):
        for _, each in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(each, kind) and not inspect.isabstract(each) and each.__module__ == module.name:
                found.append(each)
    return found


def made(kind: type[Any]) -> list[Any]:
    """A component of every class, with as few settings as it takes."""
    components = []
    for each in classes(kind):
        settings = dict(NEEDED.get(each.__name__, {}))
        if "policy" in each.model_fields:
            settings["policy"] = CostAware()
        components.append(each(**settings))
    return components


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def training() -> Training:
    vectors = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    return Training(
        models=NAMES, single=0, train={"axes": vectors[:40]}, validation={"axes": vectors[40:]}, look=1e-6
    )


def identity(component: Component) -> str:
    return type(component).__name__


def check_policy(policy: Policy, allow: tuple[str, ...] = ()) -> Policy:
    """Calibrate a policy, and hold it to what every policy promises."""
    predicted, observed, cost = simulated(200, seed=3)
    assert policy.title and policy.description and policy.name
    fitted = policy.calibrate(predicted, observed, cost, training())
    assert fitted == policy.calibrate(predicted, observed, cost, training())
    assert fitted.calibration is not None and fitted.calibration.prompts == 200

    embeddings = {"axes": np.random.default_rng(1).normal(size=(200, 5)).astype(np.float32)}
    ood = fitted.out_of_distribution(embeddings)
    choice = fitted.choose(predicted, cost, ood=ood)
    assert choice.dtype == np.int64 and choice.shape == (200,) and set(choice) <= {0, 1, 2, 3}
    few = fitted.choose(predicted, cost, allowed=np.array([1, 3]), ood=ood)
    assert set(few) <= {1, 3}
    assert fitted.choose(predicted[:0], cost).shape == (0,)

    candidates = Candidates(["A", "B", "C", "D"], cost.tolist(), range(4))
    for row, chosen in zip(predicted[:20].tolist(), choice[:20].tolist(), strict=True):
        assert fitted.explain(row, chosen, candidates).strip()
    assert fitted.summary(candidates.labels).strip() and all(fitted.notes(candidates.labels))
    json.dumps([fitted.describe(NAMES), fitted.figures(observed, cost, choice, NAMES)], allow_nan=False)

    section = json.loads(json.dumps(fitted.to_section(), allow_nan=False))
    again = restore(section, fitted.arrays(), "here", allow)
    assert again == fitted
    np.testing.assert_array_equal(again.choose(predicted, cost, ood=ood), choice)
    if fitted.sees_observed:
        with pytest.raises(ValueError, match="needs observed quality"):
            again.check(cost, ["axes"])
    else:
        again.check(cost, ["axes"])
    return fitted


def check_rule(rule: CostRule) -> None:
    """Hold a cost rule to what every rule promises."""
    assert rule.title
    cost = rule.cost(FACTS)
    assert cost.dtype == np.float64 and cost.shape == (4,) and (cost > 0).all()
    backwards = dict(reversed(FACTS.items()))
    np.testing.assert_array_equal(rule.cost(backwards), cost[::-1])
    with pytest.raises(UserError, match="no model"):
        rule.cost({})
    assert build(json.loads(json.dumps(rule.to_section())), "here", CostRule) == rule  # type: ignore[type-abstract]


class TestPolicies:
    @pytest.mark.parametrize("policy", made(Policy), ids=identity)
    def test_class(self, policy: Policy) -> None:
        check_policy(policy)

    @pytest.mark.parametrize("option", options("policy"))
    def test_option(self, compose: Compose, option: str) -> None:
        section = compose(f"+policy={option}", config=None)["policy"]
        check_policy(build(section, "policy", Policy))  # type: ignore[type-abstract]

    @pytest.mark.parametrize("option", options("policy"))
    def test_option_in_the_default_study(self, compose: Compose, option: str) -> None:
        section = compose(f"policy={option}", config="config")["policy"]
        check_policy(build(section, "policy", Policy))  # type: ignore[type-abstract]

    @pytest.mark.parametrize("settings", [{"colour": "red"}, {"title": "mine"}])
    @pytest.mark.parametrize("policy", classes(Policy), ids=lambda each: each.__name__)
    def test_unknown_setting(self, policy: type[Policy], settings: dict[str, Any]) -> None:
        given = {"policy": CostAware()} if "policy" in policy.model_fields else {}
        with pytest.raises(UserError, match=f"is no setting of {policy.__name__}"):
            policy(**given, **settings)


class TestCostRules:
    @pytest.mark.parametrize("rule", made(CostRule), ids=identity)
    def test_class(self, rule: CostRule) -> None:
        check_rule(rule)

    @pytest.mark.parametrize("option", options("cost"))
    def test_option(self, compose: Compose, option: str) -> None:
        section = compose(
            *(["+models=none"] if option == "measured" else []), f"+cost={option}", config=None
        )["cost"]
        if "prices" in section:
            section["prices"] = dict.fromkeys(NAMES, 0.5)
        check_rule(build(section, "cost", CostRule))  # type: ignore[type-abstract]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package outside the repository, with a policy and a cost rule; its name."""
    package = tmp_path / "elsewhere_routing"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mine.py").write_text(
        textwrap.dedent(
            '''
            """A policy and a cost rule of one's own."""
            import numpy as np
            from pydantic import Field
            from promptroute.routing.base import Policy, explain_gain
            from promptroute.routing.costs import CostRule

            class SecondBest(Policy):
                """Choose the model predicted second best, or the best of a single model."""

                title = "second best"
                rank: int = Field(default=1, ge=0)

                @property
                def description(self):
                    return "the model predicted second best"

                def choose(self, quality, cost, *, allowed=None, ood=None):
                    columns = np.arange(len(cost)) if allowed is None else allowed
                    order = np.argsort(-np.asarray(quality)[:, columns], axis=1)
                    return columns[order[:, min(self.rank, len(columns) - 1)]].astype(np.int64)

                def explain(self, predicted, chosen, candidates, *, ood=False):
                    return explain_gain(predicted, chosen, candidates)

            class Watts(CostRule):
                """Price the electricity: a fact of one's own."""

                title = "watts"
                dollars: float = Field(default=1e-6, gt=0)

                def cost(self, facts):
                    return self.fact(facts, "seconds") * self.dollars
            '''
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "elsewhere_routing"
    for name in [name for name in sys.modules if name.startswith("elsewhere_routing")]:
        del sys.modules[name]


class TestElsewhere:
    def test_policy(self, elsewhere: str) -> None:
        section = {"_target_": f"{elsewhere}.mine.SecondBest", "rank": 1}
        policy = build(section, "policy", Policy)  # type: ignore[type-abstract]
        fitted = check_policy(policy, allow=(f"{elsewhere}.",))
        with pytest.raises(
            UserError, match=r"here: _target_ is elsewhere_routing\.mine\.SecondBest, which this"
        ):
            restore(fitted.to_section(), {}, "here")
        with pytest.raises(UserError, match="rank is -1"):
            build({**section, "rank": -1}, "policy", Policy)  # type: ignore[type-abstract]

    def test_cost_rule(self, elsewhere: str) -> None:
        section = {"_target_": f"{elsewhere}.mine.Watts"}
        check_rule(build(section, "cost", CostRule))  # type: ignore[type-abstract]

    def test_saved_router(self, elsewhere: str, tmp_path: Path) -> None:
        from promptroute.router.router import Router
        from tests.router.made import COST, saved_router

        section = {"_target_": f"{elsewhere}.mine.SecondBest"}
        policy = build(section, "policy", Policy)  # type: ignore[type-abstract]
        predicted, observed, _ = simulated(50, seed=0)
        fitted = policy.calibrate(predicted[:, :3], observed[:, :3], COST)
        own, folder = saved_router(tmp_path / "made", fitted)
        with pytest.raises(UserError, match=r"SecondBest, which this may not name.*allows it by its path"):
            Router.load(folder)
        loaded = Router.load(folder, allow=[f"{elsewhere}.mine.SecondBest"])
        assert loaded.route(["a robot", "a sheep"]) == own.route(["a robot", "a sheep"])
        assert "second best" in (folder / "README.md").read_text()
