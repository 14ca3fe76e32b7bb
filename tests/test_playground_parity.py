"""Every operation of the playground's runtime, and whole models, answer as torch does.

All cases run in one JavaScript process: node where there is one, else the browser. The cases are made first, run
together, and compared one test each.
"""

import copy
import functools
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers import playground

SOURCES = [Path(playground.__file__).parent / name for name in ("functions.js", "runtime.js")]
RUNTIME = "".join(re.sub(r"^export |^import .*", "", path.read_text(encoding="utf-8"), flags=re.M) for path in SOURCES)
# Relative to the largest answer (at least 1). float16 keeps 11 bits of each weight.
TOLERANCE = {"float32": 1e-6, "float16": 1e-3}


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer(cls, *args, **options):
    """A layer whose every parameter is random: a zero bias or a unit scale would hide a mistake."""
    made = cls(*args, **options)
    with torch.no_grad():
        for i, p in enumerate(made.parameters()):
            p.copy_(numbers(*p.shape, seed=i + 1) / math.sqrt(max(1, p[0].numel())))
        for i, b in enumerate(made.buffers()):
            if b.is_floating_point():
                b.copy_(numbers(*b.shape, seed=i + 7).abs() + 0.5)
    return made.eval()


X = numbers(3, 4, 6)
IMAGE = numbers(3, 4, 6, 7)
W = numbers(5, 6, seed=3)
POSITIVE = X.abs() + 0.1
INDEX = torch.tensor([[1, 0], [4, 2], [3, 3]])
MASK = torch.tensor([[True, False, True, True, False, True]])

# name: (function, inputs)
OPERATIONS = {
    "linear": (layer(nn.Linear, 6, 5), [X]),
    "linear without bias": (layer(nn.Linear, 6, 5, bias=False), [X]),
    "addmm of two inputs": (lambda a, b: torch.addmm(b[:, :6], a[:, :4], b[:1].expand(4, 6)), [X[:, 0], X[:, 1]]),
    "matmul": (lambda a, b: a @ b.transpose(1, 2), [X, X + 1]),
    "matmul with broadcast": (lambda a: a @ W.t() + W[:, 0] @ W[:, 1], [X]),
    "a row by a matrix, a matrix by a column": (lambda a: a[:, :1] @ a.mT @ a[..., :1] + a[:1, :1, :1], [X]),
    "batched matmul of four dimensions": (lambda a: a @ a.transpose(2, 3), [IMAGE]),
    "conv2d": (layer(nn.Conv2d, 4, 6, 3, padding=1), [IMAGE]),
    "conv2d stride, dilation, groups": (layer(nn.Conv2d, 4, 6, (2, 3), (2, 1), (1, 2), (2, 2), 2), [IMAGE]),
    "conv2d without bias": (layer(nn.Conv2d, 4, 3, 1, bias=False), [IMAGE]),
    "conv1d": (layer(nn.Conv1d, 4, 5, 3, padding=2, dilation=2), [X]),
    "conv_transpose2d": (layer(nn.ConvTranspose2d, 4, 6, 4, 2, 1), [IMAGE]),
    "conv_transpose2d groups, output padding": (
        layer(nn.ConvTranspose2d, 4, 6, (3, 2), (2, 3), (1, 0), (1, 2), 2, dilation=(2, 1)),
        [IMAGE],
    ),
    "conv_transpose1d": (layer(nn.ConvTranspose1d, 4, 5, 4, 2, 1), [X]),
    "add with broadcast": (lambda a: a + W[0] + 2, [X]),
    "add alpha": (lambda a, b: torch.add(a, b, alpha=0.3), [X, X * 2]),
    "sub": (lambda a, b: 1 - (a - b[:, :1]), [X, X * 2]),
    "mul": (lambda a, b: a * b * 0.5, [X, X + 1]),
    "div": (lambda a, b: a / b + 1 / b, [X, POSITIVE]),
    "floor division": (lambda a: a // 0.7, [X]),
    "pow": (lambda a: a**2 + a**-0.5 + a**3 + 2**a, [POSITIVE]),
    "relu": (F.relu, [X]),
    "gelu": (F.gelu, [3 * X]),
    "gelu tanh": (lambda a: F.gelu(a, approximate="tanh"), [X]),
    "silu": (F.silu, [X]),
    "sigmoid": (torch.sigmoid, [X]),
    "tanh": (torch.tanh, [X]),
    "softplus": (lambda a: F.softplus(a, 2, 3), [X]),
    "leaky_relu": (lambda a: F.leaky_relu(a, 0.2), [X]),
    "elu": (lambda a: F.elu(a, 0.7) + F.selu(a), [X]),
    "change of type": (lambda a: (3 * a).long() + a.floor().bool().float() + (a > 0).int(), [X]),
    "clamp": (lambda a: a.clamp(-0.5, 0.5) + a.clamp(min=0.1) + F.relu6(a * 5), [X]),
    "exp, log, sqrt": (lambda a: a.exp() + a.log() + a.sqrt() + a.rsqrt(), [POSITIVE]),
    "abs, sign, floor, reciprocal, neg": (lambda a: a.abs() + a.sign() + a.floor() + a.reciprocal() - (-a), [X]),
    "sin, cos, erf": (lambda a: a.sin() * a.cos() + a.erf(), [X]),
    "maximum, minimum": (lambda a, b: torch.maximum(a, b) - 2 * torch.minimum(a, b), [X, X.flip(0)]),
    "comparisons": (
        lambda a, b: (
            (a > b) * 1.0 + (a >= b) * 2.0 + (a < 0) * 4.0 + (a <= 0.1) * 8.0 + (a == b) * 16.0 + (a != b) * 32.0
        ),
        [X, X.flip(0)],
    ),
    "where, masked_fill": (lambda a: torch.where(~(a > 0), a, 2 * a).masked_fill(MASK, 0.5), [X]),
    "softmax": (lambda a: a.softmax(-1) + a.softmax(1), [3 * X]),
    "log_softmax": (lambda a: a.log_softmax(-1) + F.log_softmax(a, 1), [3 * X]),
    "logsumexp": (lambda a: a.logsumexp(1), [X]),
    "layer_norm": (layer(nn.LayerNorm, [4, 6]), [X]),
    "layer_norm without parameters": (lambda a: F.layer_norm(a, (6,)), [X]),
    "group_norm": (layer(nn.GroupNorm, 2, 4), [IMAGE]),
    "rms_norm": (layer(nn.RMSNorm, 6, eps=1e-5), [X]),
    "vector_norm": (lambda a: a / torch.linalg.vector_norm(a, dim=-1, keepdim=True).clamp(min=2.0), [X]),
    "batch_norm": (layer(nn.BatchNorm2d, 4), [IMAGE]),
    "embedding": (layer(nn.Embedding, 5, 6), [INDEX]),
    "index": (lambda a: a[:, :, [3, 0, 5]] + a[:, [1, 1, 2, 0]][:, :, 3:], [X]),
    "index_select by an input": (lambda i: W.index_select(0, i.flatten()[:2]), [INDEX]),
    "reshape, flatten, squeeze": (lambda a: a.flatten(1).view(-1, 6, 1, 4).squeeze(2).unsqueeze(1), [X]),
    "batch joined and split again": (lambda a: a.reshape(-1, 6).cumsum(1).reshape(len(a), 24), [X]),
    "permute, transpose": (lambda a: a.permute(0, 3, 1, 2).transpose(1, 2).contiguous(), [IMAGE]),
    "cat, stack": (lambda a: torch.cat([a, torch.stack([a[:, 0], a[:, 1]], 1)], 1), [X]),
    "slice, select": (lambda a: a[:, 1:-1, ::2] + a[:, 2, 1:4].unsqueeze(1) + a[:, -1, -3:].unsqueeze(1), [X]),
    "last of the batch": (lambda a: a[-1] + a[0], [X]),
    "chunk, split, unbind": (lambda a: a.chunk(2, 1)[1] - a.split([1, 3], 1)[0] + a.unbind(1)[2][:, None], [X]),
    "expand, repeat": (lambda a: a[:, :1].expand(-1, 4, -1).repeat(1, 2, 3), [X]),
    "constants of the batch's size": (lambda a: torch.cat([a, torch.full((len(a), 1, 6), 0.5)], 1), [X]),
    "positions": (lambda a: a + torch.arange(6.0).mul(0.37).sin(), [X]),
    "mean, sum": (lambda a: a.mean((1, 2)) + a.sum(1).mean(-1, keepdim=True).squeeze(1), [X]),
    "max, variance": (lambda a: a.amax(1) + a.var(1) + a.std(1, correction=0), [X]),
    "argmax": (lambda a: a.argmax(-1).float(), [X]),
    "cumsum": (lambda a: a.cumsum(1) + a.cumsum(-1), [X]),
    "upsample nearest": (lambda a: F.interpolate(a, scale_factor=(2, 3)), [IMAGE]),
    "pad": (lambda a: F.pad(a, (1, 2, 0, 1), value=0.3), [X]),
    "attention": (lambda a: F.scaled_dot_product_attention(a, a, 2 * a), [IMAGE]),
    "causal attention": (lambda a: F.scaled_dot_product_attention(a, a, 2 * a, is_causal=True), [IMAGE]),
    "dropout is dropped": (nn.Sequential(nn.Dropout(0.5), layer(nn.Linear, 6, 2)).eval(), [X]),
    "in place": (lambda a: (a * 2).add_(1).relu_(), [X]),
    "two outputs": (lambda a: (a + 1, a.sum(1)), [X]),
}


class Attention(nn.Module):
    def __init__(self, width=16, heads=4):
        super().__init__()
        self.norm, self.heads = nn.LayerNorm(width), heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x):  # (B, T, D)
        q, k, v = self.qkv(self.norm(x)).view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape)
        x = x + self.out(y)
        return x + self.mlp(x)


class CharacterModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.place, self.block = nn.Embedding(11, 16), nn.Embedding(8, 16), Attention()
        self.head = nn.Linear(16, 11, bias=False)
        self.head.weight = self.token.weight

    def forward(self, tokens):  # (B, T)
        x = self.token(tokens) + self.place(torch.arange(tokens.shape[1]))
        return self.head(self.block(x)).log_softmax(-1)


class Denoiser(nn.Module):
    """A small U-Net that sees a time."""

    def __init__(self):
        super().__init__()
        self.enter, self.down = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, 1)
        self.time = nn.Sequential(nn.Linear(8, 16), nn.SiLU())
        self.norm, self.up = nn.GroupNorm(4, 16), nn.ConvTranspose2d(16, 8, 4, 2, 1)
        self.leave = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x, t):  # (B, 1, H, W), (B,)
        angles = t[:, None] * torch.exp(-torch.arange(4) / 4 * 6)
        h = self.enter(x)
        middle = (
            self.norm(self.down(F.silu(h))) + self.time(torch.cat([angles.sin(), angles.cos()], 1))[:, :, None, None]
        )
        return self.leave(torch.cat([h, self.up(F.silu(middle))], 1))


def mlp_decoder():
    body = nn.Sequential(nn.Linear(2, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 64 * 17))
    return nn.Sequential(layer(nn.Sequential, *body), nn.Unflatten(1, (8, 8, 17)), nn.Softmax(-1))


MODELS = {
    "decoder": (mlp_decoder(), [numbers(3, 2)]),
    "character model": (layer(CharacterModel), [torch.tensor([[1, 5, 2, 0], [7, 7, 10, 3], [4, 0, 0, 9]])]),
    "denoiser": (layer(Denoiser), [numbers(3, 1, 8, 8), torch.tensor([3.0, 0.5, 11.0])]),
}
CASES = {("float32", name): case for name, case in (OPERATIONS | MODELS).items()}
CASES |= {("float16", name): case for name, case in MODELS.items()}
# Which examples trace the graph, and for which batch it must answer then: another size, and one.
BATCHES = {"same": slice(None), "one": slice(1, 2)}
FIXED = {"index_select by an input", "addmm of two inputs"}  # their shapes do not grow with the batch


def nested(x):
    return {"shape": list(x.shape), "data": x.double().flatten().tolist()}


def run_javascript(jobs: dict) -> dict:
    """``{name: [outputs]}`` of ``{name: {graph, inputs}}``, each tensor as ``{shape, data}``."""
    body = """
      const results = {};
      for (const [name, { graph, inputs }] of Object.entries(jobs)) {
        const fed = Object.fromEntries(Object.entries(inputs).map(([k, x]) => [k, tensor(x.shape, x.data)]));
        try {
          results[name] = new Graph(graph).run(fed).map((t) => ({ shape: t.shape, data: Array.from(t.data, String) }));
        } catch (error) { results[name] = String(error); }
      }"""
    code = RUNTIME + "\nfunction all(jobs) {" + body
    code += "\n return JSON.stringify(results); }"
    if node := shutil.which("node"):
        code += '\nconsole.log(all(JSON.parse(require("fs").readFileSync(0, "utf8"))));'
        done = subprocess.run([node, "-e", code], input=json.dumps(jobs), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.add_script_tag(content=code)
        answer = page.evaluate("jobs => all(jobs)", jobs)
        browser.close()
    return json.loads(answer)


def compare(function, inputs, answers) -> float:
    """The largest difference from torch, relative to the largest number (at least 1)."""
    assert not isinstance(answers, str), answers
    with torch.no_grad():
        wanted = function(*inputs)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    assert [a["shape"] for a in answers] == [list(w.shape) for w in wanted]
    worst = 0.0
    for answer, want in zip(answers, wanted, strict=True):
        got = torch.tensor([float(x.replace("Infinity", "inf")) for x in answer["data"]], dtype=torch.float64)
        want = want.double().flatten()
        worst = max(worst, ((got - want).abs().max() / want.abs().max().clamp(min=1)).item())
    return worst


@functools.cache
def graphs():
    made = {}
    for (dtype, name), (function, inputs) in CASES.items():
        made[dtype, name] = playground.export(function, *inputs, dtype=dtype, batch=name not in FIXED)
    return json.loads(json.dumps([[*key, graph] for key, graph in made.items()]))


@functools.cache
def results():
    jobs = {}
    for dtype, name, graph in graphs():
        for batch, rows in BATCHES.items():
            if batch == "same" or name not in FIXED:
                fed = {f"x{i}": nested(x[rows]) for i, x in enumerate(CASES[dtype, name][1])}
                jobs[f"{dtype}/{name}/{batch}"] = {"graph": graph, "inputs": fed}
    return run_javascript(jobs)


@pytest.mark.parametrize("dtype, name", CASES)
def test_answers_as_torch_does(dtype, name):
    function, inputs = CASES[dtype, name]
    for batch, rows in BATCHES.items():
        if batch == "same" or name not in FIXED:
            error = compare(function, [x[rows] for x in inputs], results()[f"{dtype}/{name}/{batch}"])
            assert error <= TOLERANCE[dtype], f"batch {batch}: off by {error:.1e}"


def weight_of(graph, name):
    return next(w for w in graph["weights"]["list"] if w["name"] == name)


def transposed_weight(graph):
    op = next(
        op for op in graph["operations"] if op["op"] == "linear" and weight_of(graph, op["in"][1])["shape"] == [64, 64]
    )
    graph["operations"].insert(0, {"op": "permute", "in": [op["in"][1]], "out": "mutant", "order": [1, 0]})
    op["in"][1] = "mutant"


def missing_bias(graph):
    next(op for op in graph["operations"] if op["op"] == "linear")["in"].pop()


def tanh_for_gelu(graph):
    next(op for op in graph["operations"] if op["op"] == "gelu")["op"] = "tanh"


def softmax_over_the_pixels(graph):
    next(op for op in graph["operations"] if op["op"] == "softmax")["dim"] = 2


def shifted_mask(graph):
    op = next(op for op in graph["operations"] if op["op"] == "softmax")
    op["in"] = [
        next(o["in"][0] for o in graph["operations"] if o["out"] == op["in"][0])
    ]  # the scores, without the mask


def flipped_padding(graph):
    next(op for op in graph["operations"] if op["op"] == "conv2d")["padding"] = [0, 2]


def wrong_groups(graph):
    next(op for op in graph["operations"] if op["op"] == "group_norm")["groups"] = 2


MUTANTS = [
    ("decoder", transposed_weight),
    ("decoder", missing_bias),
    ("decoder", tanh_for_gelu),
    ("decoder", softmax_over_the_pixels),
    ("character model", shifted_mask),
    ("denoiser", flipped_padding),
    ("denoiser", wrong_groups),
]


def test_the_comparison_sees_each_mutant():
    """Even at float16's tolerance."""
    jobs = {}
    for name, mutate in MUTANTS:
        function, inputs = MODELS[name]
        graph = copy.deepcopy(playground.export(function, *inputs))
        mutate(graph)
        jobs[mutate.__name__] = {"graph": graph, "inputs": {f"x{i}": nested(x) for i, x in enumerate(inputs)}}
    answers = run_javascript(jobs)
    for name, mutate in MUTANTS:
        try:
            error = compare(*MODELS[name], answers[mutate.__name__])
        except AssertionError:
            continue  # another shape, or an exception in the page: seen as well
        assert error > 5 * TOLERANCE["float16"], f"{mutate.__name__} is off by {error:.1e} only"


def test_every_operation_of_the_runtime_is_covered():
    """The tables of the runtime and the operations of the cases are the same set."""
    tables = re.findall(r"const (?:unary|binary|operations) = \{(.*?)\n\};", RUNTIME, re.S)
    offered = {name for table in tables for name in re.findall(r"^  (\w+)[:,]", table, re.M)}
    assert offered == {op["op"] for *_, graph in graphs() for op in graph["operations"]}


class TestExport:
    def test_float16_takes_half_the_bytes(self):
        half, full = (playground.export(MODELS["decoder"][0], numbers(1, 2), dtype=d) for d in ("float16", "float32"))
        assert len(full["weights"]["data"]) == pytest.approx(2 * len(half["weights"]["data"]), rel=0.01)

    def test_a_shared_weight_is_stored_once(self):
        graph = playground.export(*[MODELS["character model"][0]], torch.zeros(1, 4, dtype=torch.long))
        assert [w["shape"] for w in graph["weights"]["list"]].count([11, 16]) == 1

    def test_weights_keep_their_names(self):
        graph = playground.export(layer(nn.Linear, 2, 3), numbers(1, 2), names=["z"])
        assert [w["name"] for w in graph["weights"]["list"]] == ["weight", "bias"]
        assert graph["inputs"] == [{"name": "z", "shape": [[0, 1], 2]}]

    def test_training_mode_is_left_as_it_was(self):
        model = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2)).train()
        model[1].eval()
        playground.export(model, numbers(1, 2))
        assert [m.training for m in model.modules()] == [True, True, False]

    def test_an_unsupported_operation_is_named_with_its_line(self):
        def invert(z):
            square = z[:, :, None] * z[:, None] + torch.eye(2)
            return torch.linalg.inv(square)

        with pytest.raises(ValueError, match=r"linalg_inv.*test_playground_parity\.py:\d+: return torch\.linalg\.inv"):
            playground.export(invert, numbers(1, 2))

    @pytest.mark.parametrize(
        "call, message",
        [
            (lambda: playground.export(F.relu), "example tensors"),
            (lambda: playground.export(F.relu, [1.0]), "example tensors"),
            (lambda: playground.export(F.relu, X, dtype="bfloat16"), "float16"),
            (lambda: playground.export(F.relu, X, names=["a", "b"]), "1 inputs but 2 names"),
            (lambda: playground.export(F.relu, torch.tensor(1.0)), "first dimension"),
            (lambda: playground.export(lambda a: a + torch.randn_like(a), X), "draws random numbers"),
            (lambda: playground.export(lambda a: a + torch.randn(6), X, batch=False), "draws random numbers"),
            (lambda: playground.export(lambda a: a * (1 if len(a) == 2 else a), X), "another path"),
            (lambda: playground.export(lambda a: a.sum(0) / len(a), X), "another number"),
            (lambda: playground.export(lambda a: a + torch.arange(len(a))[:, None, None], X), "batch size"),
            (lambda: playground.export(nn.Conv3d(1, 1, 1), numbers(1, 1, 2, 2, 2)), "3-D"),
            (lambda: playground.export(lambda a: a.sort(-1)[0], X), "sort"),
        ],
    )
    def test_bad_input(self, call, message):
        with pytest.raises(ValueError, match=message):
            call()
