"""The command: train a family on one's own file, and score other files with what it learnt."""

from __future__ import annotations

import argparse
import ast
import json
import sys
import time
from pathlib import Path

import torch

from helpers.training import files, runs, workers
from helpers.training.runs import CHECKPOINT, METRICS, SAMPLES, SETTINGS, STATE

DESCRIPTION = """Train a family of generative model on your own data.

  python -m helpers.training NAME --data FILE --out FOLDER [--seconds 60]
  python -m helpers.training evaluate FOLDER --data FILE

FILE is either
  an .npz with an array x:
    images            uint8 (N, height, width) or (N, height, width, channels)
    binary sequences  0 and 1, (N, T, D), with an array lengths (N,)
    points            float (N, D)
  or a text in UTF-8: one running text (--examples characters) or one example a line (--examples lines).

FOLDER receives
  checkpoint.pt   the model; in Python: helpers.training.load(FOLDER)
  samples.*       what it generates: .npz, and .png for images or .txt for text
  metrics.json    negative log-likelihood on the validation and the test part, with unit, kind (exact, bound or
                  estimate) and number of examples; parameters, seconds, steps, seed
  settings.json   all that the result depends on
Training that was interrupted leaves training.pt; the same line with --resume continues it, to the same result.

On several processors, GPUs or machines: the same line after torchrun instead of python. Each batch is shared among
the workers. --resume may have another number of them, and begins where there is nothing to continue: with it, a
worker that is lost and started again costs the steps since the last checkpoint.

  torchrun --nproc-per-node 2 --max-restarts 3 -m helpers.training NAME --data FILE --out FOLDER --resume
  torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint HOST:29500 -m helpers.training …
"""

EXAMPLES = """examples:
  python -m helpers.training vae --data images.npz --seconds 60 --out run/
  python -m helpers.training vae --data images.npz --steps 2000 --set latents=8 --set batch_size=64 --out run8/
  python -m helpers.training vae --data digits.npz --fractions .5565,.1948 --out digits/    (the rest is the test part)
  python -m helpers.training evaluate run/ --data other.npz
"""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str):
        raise ValueError(f"{message} (--help explains)")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, 1 (training failed), 2 (wrong input) or 130 (Ctrl-C)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments[:1] == ["evaluate"]:
            return _evaluate(_evaluate_parser().parse_args(arguments[1:]))
        args = _train_parser(help="--help" in arguments or "-h" in arguments).parse_args(arguments)
        args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
        if args.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("--device cuda: torch finds no GPU here")
        with workers.connected(args.device):
            return _train(args)
    except (ValueError, OSError) as error:
        return _complain(str(error), 2)
    except FloatingPointError as error:
        return _complain(str(error), 1)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)


def _complain(message: str, code: int) -> int:
    who = f" (worker {workers.rank()})" if workers.rank() else ""
    if not who or code == 2:  # the others speak of what may be theirs alone: the files they read
        print(f"error{who}: " + " ".join(message.split()), file=sys.stderr)
    if who:
        time.sleep(2)  # for the first one to tidy up: when this one ends, torchrun ends all
    return code


def _train_parser(help: bool = False) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m helpers.training",
        description=DESCRIPTION + ("\nNAME is one of: " + ", ".join(runs.families()) if help else ""),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", help="the family, a module of helpers.models")
    parser.add_argument("--data", required=True, metavar="FILE", help="what to learn from")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where the results go")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument(
        "--seconds",
        type=_positive(float),
        help="train for about so long (default 60): a short calibration fixes the number of steps, "
        "which metrics.json names, so that --steps repeats the run on any machine",
    )
    amount.add_argument("--steps", type=_positive(int), help="train for so many steps")
    parser.add_argument("--split", default="order", help="order (as in the file, the default) or shuffle:SEED")
    parser.add_argument(
        "--fractions",
        type=_fractions,
        default=(0.8, 0.1, 0.1),
        help="training,validation[,test]; what two leave is the test part (default .8,.1,.1)",
    )
    parser.add_argument(
        "--examples",
        choices=("characters", "lines"),
        default="characters",
        help="of a text: windows of one running text (default), or its lines",
    )
    parser.add_argument(
        "--length", type=_positive(int), default=128, help="characters in a window of running text (default 128)"
    )
    parser.add_argument("--levels", type=_positive(int), help="number of values of a pixel (default: largest + 1)")
    parser.add_argument("--seed", type=_whole, default=0, help="of weights, batches and samples (default 0)")
    parser.add_argument("--threads", type=_positive(int), help="of the processor (default: torch's choice)")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: the GPU if there is one")
    parser.add_argument(
        "--accumulate",
        type=_positive(int),
        default=1,
        help="work each batch off in so many parts, where memory is short (default 1)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_assignment,
        metavar="KEY=VALUE",
        help="an option of the model, or of its training (" + ", ".join(sorted(runs.recipe_keys())) + ")",
    )
    parser.add_argument("--resume", action="store_true", help="continue the interrupted training in FOLDER")
    parser.add_argument("--overwrite", action="store_true", help="replace the run that is in FOLDER")
    return parser


def _evaluate_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m helpers.training evaluate",
        description="Score a file with a trained model: prints the result and writes it as JSON.",
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="FOLDER", help="what --out named when the model was trained")
    parser.add_argument("--data", required=True, metavar="FILE", help="a file of the same kind")
    parser.add_argument("--out", metavar="FILE", help="where the JSON goes (default FOLDER/evaluate-NAME.json)")
    parser.add_argument("--seed", type=_whole, default=0, help="of a bound's or an estimate's randomness (default 0)")
    parser.add_argument("--threads", type=_positive(int), help="of the processor (default: torch's choice)")
    return parser


def _train(args: argparse.Namespace) -> int:
    began = time.perf_counter()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.resume and args.overwrite:
        raise ValueError("--resume continues a run, --overwrite replaces it: choose one")
    task = _task(args)
    out = Path(args.out)
    wanted = dict(
        family=args.name, data_sha256=files.sha256(args.data), split=args.split, fractions=list(args.fractions),
        examples=args.examples, length=args.length, levels=task.train.levels, seed=args.seed, set=dict(args.set),
    )  # fmt: skip
    stored, made = workers.first(lambda: (_stored(out, args, wanted), _make_folder(out)))
    if (workers.first(lambda: wanted)) != wanted:
        raise ValueError(f"{args.data} is not what the first worker reads")
    try:
        model = task.build(args.seed)
        if stored is None:
            _say(
                f"{args.name}: {sum(p.numel() for p in model.parameters()):,} parameters; "
                + ", ".join(
                    f"{len(part):,} {name}"
                    for name, part in (("training", task.train), ("validation", task.validation), ("test", task.test))
                    if part
                )
                + (" characters" if task.train.kind == "characters" else " examples")
            )
            seconds = None if args.steps else args.seconds or 60.0
            steps = args.steps or task.calibrate(model, seconds, began)
            calibration = time.perf_counter() - began
            if seconds is not None and steps:
                _say(f"{steps:,} steps, as many as fit into {seconds:g} s")
            stored = dict(
                **wanted, steps=steps, seconds=seconds, calibration_seconds=calibration if seconds else 0.0,
                threads=torch.get_num_threads(), data=str(args.data), torch=str(torch.__version__),
                device=args.device, workers=workers.size(), accumulate=args.accumulate,
            )  # fmt: skip
            workers.first(lambda: _begin(out, stored))
        else:
            torch.set_num_threads(stored["threads"])
            _say(f"continuing {out}: {stored['steps']:,} steps in all")
        history = task.fit(model, steps=stored["steps"], seed=args.seed, checkpoint=out / STATE)
        if history.stopped == "interrupted":
            raise KeyboardInterrupt
        if workers.rank() == 0:
            _finish(out, task, model, history, stored)
    except BaseException as error:
        if workers.rank():
            raise
        if isinstance(error, KeyboardInterrupt) and (out / STATE).exists():
            return _complain(
                f"interrupted; {out / STATE} holds the training, the same line with --resume continues", 130
            )
        if not (out / STATE).exists():  # nothing worth keeping
            if stored is not None and not (out / METRICS).exists():
                for name in (SETTINGS, CHECKPOINT, *SAMPLES):
                    (out / name).unlink(missing_ok=True)
            for folder in made:
                folder.rmdir()
        raise
    return 0


def _begin(out: Path, settings: dict) -> None:
    """Remove what is left of a run that is being replaced, and write the new one's settings."""
    for name in (METRICS, CHECKPOINT, STATE, *SAMPLES):
        (out / name).unlink(missing_ok=True)
    runs.write_json(out / SETTINGS, settings)


def _finish(out: Path, task: runs.Task, model, history, settings: dict) -> None:
    """Write the results; metrics.json, the sign of a finished run, last."""
    seed, length = settings["seed"], task.length
    metrics = dict(
        validation=runs.score(model, task.validation, length, seed),
        test=runs.score(model, task.test, length, seed),
        parameters=sum(p.numel() for p in model.parameters()),
        seconds=history.seconds,
        calibration_seconds=settings["calibration_seconds"],
        steps=history.steps,
        seed=seed,
        threads=settings["threads"],
        workers=workers.size(),
    )
    if history.validation and {**{"keep_best": True}, **task.recipe}["keep_best"]:
        metrics["best_step"] = history.best[0]
    runs.save(out, model, task, settings)
    runs.write_samples(out, model, task.train, seed)
    runs.write_json(out / METRICS, metrics)
    (out / STATE).unlink(missing_ok=True)
    for part in ("validation", "test"):
        if metrics[part] is not None:
            _say(f"{part}: {_sentence(metrics[part])}")
    _say(f"{history.steps:,} steps in {history.seconds:.1f} s; written to {out}")


def _sentence(found: dict) -> str:
    sign = {"exact": "", "bound": "at most ", "estimate": "about "}[found["kind"]]
    bits = f", {found['bits_per_dimension']:.3f} bits per dimension" if "bits_per_dimension" in found else ""
    return f"{sign}{found['value']:.3f} {found['unit']}{bits} (n = {found['n']:,})"


def _evaluate(args: argparse.Namespace) -> int:
    if args.threads:
        torch.set_num_threads(args.threads)
    model, like, rest = runs.load_with_data(args.run)
    mode = like.kind if like.is_text else "characters"
    examples = files.read(args.data, mode, like=like)
    found = runs.score(model, examples, rest["length"], args.seed)
    if found is None:
        raise ValueError(f"{args.run} holds a model without a likelihood: there is no score")
    result = dict(run=str(args.run), data=str(args.data), data_sha256=files.sha256(args.data), **found)
    path = Path(args.out) if args.out else Path(args.run) / f"evaluate-{Path(args.data).stem}.json"
    runs.write_json(path, result)
    print(json.dumps(result, indent=2))
    return 0


def _task(args: argparse.Namespace) -> runs.Task:
    """Everything that can be wrong with the input is found here, before anything is written."""
    kind = runs.family(args.name)
    runs.check_options(args.name, args.set)
    examples = files.read(args.data, args.examples, args.levels)
    parts = files.split(examples, args.split, args.fractions)
    if examples.kind == "characters" and len(parts[0]) < args.length:
        raise ValueError(f"the training part has {len(parts[0])} characters, fewer than --length {args.length}")
    keys = runs.recipe_keys()
    recipe = {k: v for k, v in kind.recipe.items() if k != "steps"} | {k: v for k, v in args.set if k in keys}
    recipe["accumulate"] = args.accumulate
    options = {k: v for k, v in args.set if k not in keys}
    task = runs.Task(args.name, options, recipe, args.length, *parts, device=args.device)
    try:
        task.rehearse(task.build(args.seed))
    except (TypeError, NotImplementedError) as error:
        raise ValueError(str(error)) from error
    return task


def _stored(out: Path, args: argparse.Namespace, wanted: dict) -> dict | None:
    """The settings of the run to continue; None to start anew; ``ValueError`` if there is something in the way."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not out.is_dir():
        raise ValueError(f"--out {out} is a file")
    if not (out / SETTINGS).exists():
        raise ValueError(f"--out {out} holds something else than a run: choose another folder")
    if args.overwrite:
        return None
    if (out / METRICS).exists():
        raise ValueError(f"--out {out} holds a finished run: --overwrite replaces it")
    if not args.resume:
        raise ValueError(f"--out {out} holds an interrupted run: --resume continues it, --overwrite replaces it")
    stored = json.loads((out / SETTINGS).read_text(encoding="utf-8"))
    if args.steps or args.seconds:
        wanted = {**wanted, "steps" if args.steps else "seconds": args.steps or args.seconds}
    for key, value in wanted.items():
        if stored.get(key) != value:
            raise ValueError(f"--resume: {out} was started with {key} {stored.get(key)}, not {value}")
    return stored


def _make_folder(out: Path) -> list[Path]:
    """Make ``out``; returns the folders that were missing, innermost first. ``ValueError`` if one cannot write."""
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        for folder in missing:
            if folder.exists():
                folder.rmdir()
        raise ValueError(f"--out {out} cannot be written: {error.strerror}") from error
    return missing


def _say(text: str) -> None:
    if workers.rank() == 0:
        print(text, flush=True)


def _positive(kind: type):
    def parse(text: str):
        value = kind(text)
        if not 0 < value < 2**63:
            raise argparse.ArgumentTypeError(f"{text} is not a positive {parse.__name__}")
        return value

    parse.__name__ = "whole number" if kind is int else "number"
    return parse


def _whole(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 2^63 - 1")
    return value


def _fractions(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


_fractions.__name__ = "list of numbers"
_whole.__name__ = "whole number"


def _assignment(text: str) -> tuple[str, object]:
    key, sign, value = text.partition("=")
    if not sign or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"{text} is not KEY=VALUE")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value
