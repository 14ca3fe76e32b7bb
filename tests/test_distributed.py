"""Several processes train one model: they do what one does, whatever is killed, and never wait for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
SECONDS = 150  # after which a child that hangs is killed, and its test fails

LIBRARY = '''
"""Runs a function in two (or more) processes forked from one, connected by gloo."""
import datetime, os, signal, sys, tempfile
import torch
import torch._dynamo, torch.distributed as dist  # the compiler, which SGD wants, before the fork: it takes 2 s
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from torch import nn
from families import Duel, Gauss, Pixels
from helpers.models.base import GenerativeModel
from helpers.models.gpt import GPT
from helpers.training import fit, workers
from helpers.training.parts import Batches

def by(n, function):
    """What ``function()`` returned, or the exception it raised, in each of ``n`` workers."""
    folder = tempfile.mkdtemp()
    children = []
    for rank in range(n):
        child = os.fork()
        if not child:
            try:
                limit = datetime.timedelta(seconds=60)
                dist.init_process_group("gloo", store=dist.FileStore(folder + "/store", n), rank=rank, world_size=n,
                    timeout=limit)
                try:
                    result = function()
                except (ValueError, FloatingPointError) as error:
                    result = f"{type(error).__name__}: {error}"
                torch.save(result, f"{folder}/{rank}")
                dist.destroy_process_group()
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    return [torch.load(f"{folder}/{rank}", weights_only=False) for rank in range(n)]

def plainly(model):
    """By gradient descent: unlike AdamW it sees the length of the gradient."""
    model.optimizers = lambda rate, decay=0.0: [torch.optim.SGD(model.parameters(), lr=rate)]
    return model

class Rivals(Duel):
    """A GAN without noise: its generator moves the data."""
    def optimizers(self, rate, decay=0.0):
        return [torch.optim.SGD(net.parameters(), lr=rate) for net in (self.generator, self.critic)]
    def training_step(self, batch, optimizers):
        randn, torch.randn_like = torch.randn_like, torch.sin
        try:
            return super().training_step(batch, optimizers)
        finally:
            torch.randn_like = randn

class Branch(GenerativeModel):
    """A network that only some examples use: the worker without such an example has no gradient for it."""
    def __init__(self):
        super().__init__()
        self.a, self.b, self.never = (nn.Parameter(torch.ones(2)) for _ in range(3))
    def loss(self, x, condition=None):
        far = x[x[:, 0] > 1.5]
        loss = (self.a * x - 1).square().sum()
        return (loss + (self.b * far).square().sum() if len(far) else loss) / len(x)

def problem(name):
    """A model, and data whose shares differ: also in how many terms they count."""
    torch.manual_seed(0)
    if name == "pixels":
        return plainly(Pixels((3, 3), 4, noise=0.0)), (torch.rand(50, 3, 3) ** 2 * 4).to(torch.uint8)
    if name == "gpt":
        lengths = torch.randint(1, 9, (50, 1))
        x = torch.randint(0, 3, (50, 8)).where(torch.arange(8) < lengths, -1)
        return plainly(GPT(3, True, 8, layers=1, heads=1, width=8)), x
    return {"rivals": Rivals(2), "branch": plainly(Branch())}[name], torch.randn(50, 2)

def trained(name, accumulate=1, **options):
    model, x = problem(name)
    options = dict(steps=9, batch_size=11, learning_rate=0.05, clip=3.0, ema=0.5, seed=1, progress=False) | options
    history = fit(model, x, accumulate=accumulate, validation=None if name == "rivals" else x, **options)
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    return dict(weights=flat, logs=history.logs, validation=history.validation, random=torch.get_rng_state(),
        stopped=history.stopped, steps=history.steps)

def same(a, b, tolerance=2e-6):
    logs = all(torch.allclose(torch.tensor(a["logs"][k]), torch.tensor(b["logs"][k]), atol=tolerance, rtol=1e-5)
        for k in a["logs"])
    return logs and bool(torch.allclose(a["weights"], b["weights"], atol=tolerance, rtol=1e-5))
'''


def run(code: str, *arguments: str) -> list[str]:
    """The lines that a script prints; it is killed, with all its processes, when it hangs."""
    command = [sys.executable, "-c", LIBRARY + code, str(TESTS), *arguments]
    env = {**os.environ, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, err
    return out.splitlines()


def test_two_workers_give_the_gradients_of_one():
    """Weights and logs after 9 steps of gradient descent, for every kind of family; and three mistakes that show.

    Batches of 11: the shares have 5 and 6 examples, and of the text unequally many symbols.
    """
    found = run("""
for name in ("pixels", "gpt", "rivals", "branch"):
    one = trained(name)
    two = by(2, lambda: trained(name))
    print(name, same(one, two[0]), torch.equal(two[0]["weights"], two[1]["weights"]),
        torch.equal(two[0]["random"], two[1]["random"]))
one = {name: trained(name) for name in ("pixels", "gpt")}
total, next_, terms = workers.total, Batches.next, GPT.terms
def summed(numbers):
    numbers = total(numbers)
    if len(numbers) > 20:  # gradients, not logs
        numbers[-1] /= 2
    return numbers
workers.total = summed
print("summed", same(one["pixels"], by(2, lambda: trained("pixels", clip=None))[0]))
workers.total = total
Batches.next = lambda self, rank=0, workers=1: next_(self, 0, workers)
print("same share", same(one["pixels"], by(2, lambda: trained("pixels"))[0]))
Batches.next = next_
GPT.terms = GenerativeModel.terms
print("examples counted for symbols", same(one["gpt"], by(2, lambda: trained("gpt"))[0]))
""")
    assert found == [
        *(f"{name} True True True" for name in ("pixels", "gpt", "rivals", "branch")),
        *(f"{mutant} False" for mutant in ("summed", "same share", "examples counted for symbols")),
    ]


def test_microbatches_give_the_gradient_of_the_batch():
    found = run("""
for name in ("pixels", "gpt", "branch"):
    one = trained(name)
    print(name, same(one, trained(name, 3)), same(one, by(2, lambda: trained(name, 2))[0]))
print("rivals", len(trained("rivals", 3)["logs"]["critic"]))  # each meets the other as it was: another training
terms = GPT.terms
GPT.terms = GenerativeModel.terms
print("mutant", same(one, trained("gpt", 3)))
print(by(2, lambda: trained("pixels", 6))[1])
""")
    assert found == [
        *(f"{name} True True" for name in ("pixels", "gpt", "branch")),
        "rivals 9",
        "mutant False",
        "ValueError: a batch of 11 is too small for 2 workers with 6 microbatches each",
    ]


def test_each_worker_has_noise_of_its_own_and_the_checkpoint_suits_any_number(tmp_path):
    """Interrupted in one worker of two near step 4, and continued by three, by one, and by two as if nothing had been.

    With noise, two that were interrupted end with the same bits as two that were not.
    """
    found = run(
        """
import shutil
path = sys.argv[2]
def interrupting(where):
    def training(**options):
        def callback(step, model):
            if step == 4:
                os.kill(os.getpid(), signal.SIGINT)
        if workers.rank() != where:  # the first hears of it after step 4, the second within it
            callback = None
        elif where:
            step = workers.step
            def noting(*arguments):
                noting.calls += 1
                if noting.calls == 4:
                    os.kill(os.getpid(), signal.SIGINT)
                return step(*arguments)
            noting.calls = 0
            workers.step = noting
        return trained(checkpoint=path + "/state", callback=callback, **options)
    return training
for where in (0, 1):
    if where:
        os.remove(path + "/state")
    stopped = by(2, lambda: interrupting(where)(name="pixels"))
    print([(one["stopped"], one["steps"]) for one in stopped])
whole = trained("pixels")
for n in (3, 1, 2):
    shutil.copy(path + "/state", path + "/copy")
    print(n, same(whole, by(n, lambda: trained("pixels", checkpoint=path + "/copy"))[0]))
shutil.copy(path + "/state", path + "/copy")
print("alone", same(whole, trained("pixels", checkpoint=path + "/copy")))

os.remove(path + "/state")
class Noisy(Pixels):
    seen = []
    def loss(self, x, condition=None):
        self.seen.append(float(torch.randn(())))
        return super().loss(x)
def noisy(**options):
    torch.manual_seed(5)
    model = Noisy((3, 3), 4, noise=0.3)
    options = dict(steps=9, batch_size=11, seed=1, checkpoint=path + "/state", progress=False) | options
    fit(model, problem("pixels")[1], **options)
    return model.logits.detach(), model.seen
def stop(step, model):
    if step == 4:
        os.kill(os.getpid(), signal.SIGINT)
by(2, lambda: noisy(callback=stop))
resumed = by(2, noisy)
os.remove(path + "/state")
whole = by(2, noisy)
print("noise", len({*whole[0][1], *whole[1][1]}), torch.equal(resumed[0][0], whole[0][0]))
from contextlib import nullcontext
os.remove(path + "/state")
workers.own_noise = lambda device: nullcontext()
common = by(2, noisy)
print("mutant", len({*common[0][1], *common[1][1]}))
""",
        str(tmp_path),
    )
    assert found == [
        "[('interrupted', 5), ('interrupted', 5)]",
        "[('interrupted', 4), ('interrupted', 4)]",
        "3 True",
        "1 True",
        "2 True",
        "alone True",
        "noise 18 True",
        "mutant 9",
    ]


def test_what_one_worker_meets_all_hear_of(tmp_path):
    """A loss that is not a number in one worker; no gradients; and files that only the first may write."""
    found = run(
        """
def bad():
    model, x = problem("pixels")
    loss = model.loss
    model.loss = lambda x, condition=None: loss(x) * (float("nan") if workers.rank() and len(seen) == 3 else 1)
    seen = []
    step = workers.step
    workers.step = lambda *a: seen.append(1) or step(*a)
    fit(model, x, steps=9, batch_size=11, seed=1, progress=False)
print(by(2, bad))
print(by(2, lambda: fit(Gauss(2), torch.randn(9, 2)))[1])
def different():
    torch.manual_seed(workers.rank())
    model, x = Pixels((3, 3), 4, noise=0.0), problem("pixels")[1]
    torch.manual_seed(7 + workers.rank())
    fit(model, x, steps=3, batch_size=11, progress=False)
    return model.logits.detach()
print("begun alike", torch.equal(*by(2, different)))
def absent():
    return workers.first(lambda: open("/absent"))
try:
    absent()
except OSError as error:
    print(error)
def asked():
    try:
        absent()
    except OSError as error:
        return str(error)
print(by(2, asked))
"""
    )
    error = "FloatingPointError: loss is nan at step 3 of 9: a lower learning_rate, or clip, may help"
    absent = "[Errno 2] No such file or directory: '/absent'"
    assert found == [
        str([error, error]),
        "ValueError: Gauss is not learnt by gradient: run it without torchrun",
        "begun alike True",
        absent,
        str([absent, absent]),
    ]
