"""One fit of a comparison and what it scores, kept so that it is never done twice."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jensen.data import Dataset, Stored
from jensen.errors import JensenError, RunError
from jensen.evaluation import MEMORY, evaluate_exact, importance_pass, summarise
from jensen.recipes import RECIPES
from jensen.runs.comparing.plan import Entry, Plan
from jensen.runs.comparing.sharing import alone
from jensen.runs.fitting import fit
from jensen.runs.run import Run, make_folder
from jensen.runs.storage import read_json, read_tensors, write_json, write_tensors
from jensen.runs.watching import Watcher

FILE = "result.json"
_SCORES = "scores.safetensors"


@dataclass(frozen=True)
class Outcome:
    """What became of one fit.

    Attributes:
        label: How its model is called.
        recipe: The model.
        seed: The seed.
        folder: Its Run.
        error: Why it failed; None if it didn't.
        status: How it ended: "finished", "stopped early" or "failed".
        epochs: Epochs done.
        seconds: Time that their steps took.
        parameters: Numbers that were learned.
        likelihood: Which was chosen.
        numbers: What ``jensen.evaluation.evaluate`` says of the test data; empty if it failed.
        evidence: log p(x) of each test datum, nats, (n,); None if it failed.
        sampling_error: The standard error of each, (n,); None if it failed.
    """

    label: str
    recipe: str
    seed: int
    folder: Path
    error: str | None
    status: str
    epochs: int
    seconds: float
    parameters: int
    likelihood: str
    numbers: dict[str, Any]
    evidence: Tensor | None
    sampling_error: Tensor | None


def carry_out(
    folder: Path,
    plan: Plan,
    entry: Entry,
    dataset: Dataset | Stored,
    valid: Dataset | None,
    test: Dataset,
    *,
    device: str,
    watcher: Watcher | None,
) -> None:
    """Fits and evaluates one entry, or goes on with it; what goes wrong is written down as its result.

    Args:
        folder: Of the comparison.
        plan: The plan.
        entry: Which.
        dataset: Training data.
        valid: Validation data.
        test: Data to judge on.
        device: Where to compute.
        watcher: Who is told.

    Raises:
        KeyboardInterrupt: If the fit was interrupted; it can be gone on with.
        RunError: If its folder can't be used; OSError likewise.
    """
    path = folder / entry.name
    result: dict[str, Any] = {"fingerprint": plan.fingerprint(entry), "error": None}
    try:
        with alone():
            run = fit(
                dataset,
                entry.recipe,
                entry.options,
                valid=valid,
                seed=entry.seed,
                device=device,
                folder=path,
                resume=True,
                watcher=watcher,
            )
        if run.history and run.history[-1]["status"] == "interrupted":
            raise KeyboardInterrupt
        result |= _judge(run, path, plan, test)
    except (RunError, OSError):
        # The folder's fault, not the model's.
        raise
    except Exception as error:
        what = str(error) if isinstance(error, JensenError) else f"{type(error).__name__}: {error}"
        result["error"] = what
    write_json(make_folder(path) / FILE, result)


def _judge(run: Run, path: Path, plan: Plan, test: Dataset) -> dict[str, Any]:
    """Scores every test datum; the numbers are kept with the Run as those of ``jensen evaluate`` are."""
    x = run.prepare(test, plan.seed)
    if RECIPES[run.recipe].solve is not None:
        numbers = evaluate_exact(run.model, x)
        with torch.inference_mode():
            evidence = run.model.log_prob(x)
        error = torch.zeros_like(evidence)
    else:
        memory = 2**31 if x.is_cuda else MEMORY
        scores = importance_pass(run.model, x, plan.samples, seed=plan.seed, memory=memory)
        numbers = summarise(run.model, x, scores)
        evidence, error = scores.evidence, scores.standard_error
    run.add_evaluation({"data": test.name, "seed": plan.seed, **numbers})
    write_tensors(path / _SCORES, {"evidence": evidence, "standard_error": error})
    return {
        "status": run.history[-1]["status"],
        "epochs": run.history[-1]["epoch"],
        "seconds": sum(record["seconds"] for record in run.history),
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "likelihood": run.likelihood,
        "numbers": numbers,
    }


def outcome(folder: Path, plan: Plan, entry: Entry) -> Outcome | None:
    """What became of an entry; None as long as there is no result.

    Raises:
        RunError: If there is one of another fit.
    """
    path = folder / entry.name
    if not (path / FILE).exists():
        return None
    result = read_json(path / FILE)
    if result.get("fingerprint") != plan.fingerprint(entry):
        raise RunError(
            f"{path} holds the result of another fit than the one asked for; remove it, or choose another folder"
        )
    failed = result["error"] is not None
    scores: dict[str, Tensor] = {} if failed else read_tensors(path / _SCORES)
    return Outcome(
        label=entry.label,
        recipe=entry.recipe,
        seed=entry.seed,
        folder=path,
        error=result["error"],
        status="failed" if failed else result["status"],
        epochs=result.get("epochs", 0),
        seconds=float(result.get("seconds", 0.0)),
        parameters=result.get("parameters", 0),
        likelihood=result.get("likelihood", ""),
        numbers=result.get("numbers", {}),
        evidence=scores.get("evidence", None if failed else torch.empty(0)),
        sampling_error=scores.get("standard_error"),
    )
