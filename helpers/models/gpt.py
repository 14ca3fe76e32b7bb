"""GPT: a Transformer that predicts the next symbol. Radford et al. (2018, 2019); laid out after nanoGPT.

With its defaults it is a small GPT of today: rotary positions, RMSNorm, squared ReLU, no biases, trained by Muon.
With ``positions="learned", norm="layer", activation="gelu", bias=True, qk_norm=False, recent=1`` it is GPT-2.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import decoding
from helpers.layers.attention import Cache, CausalSelfAttention, RMSNorm, turns, unit
from helpers.models.base import GenerativeModel
from helpers.models.checks import check_sequences, no_condition, whole_number
from helpers.models.muon import Muon


class SquaredReLU(torch.autograd.Function):
    """max(x, 0)², So et al. (2021), "Primer". Its derivative takes one pass here; autograd would take three."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        positive = x.relu()
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return (gradient * ctx.saved_tensors[0]).mul_(2)


class MLP(nn.Module):
    """What each position makes of what it has gathered, (B, T, width) → the same, through 4 · width units."""

    def __init__(self, width: int, activation: str, bias: bool):
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width, bias=bias), nn.Linear(4 * width, width, bias=bias)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activate(self.up(x)))

    def activate(self, h: Tensor) -> Tensor:
        if self.activation == "gelu":
            return F.gelu(h, approximate="tanh")  # as GPT-2 does
        return SquaredReLU.apply(h) if h.requires_grad else F.relu(h).square()


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): the stream x passes unhindered, each part adds to it."""

    def __init__(self, width: int, heads: int, norm: type, activation: str, bias: bool, qk_norm: bool):
        super().__init__()
        self.norm1, self.attention = norm(width), CausalSelfAttention(width, heads, bias, qk_norm)
        self.norm2, self.mlp = norm(width), MLP(width, activation, bias)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor] | None, cache: Cache | None = None) -> Tensor:
        x = x + self.attention(self.norm1(x), turn, cache)
        return x + self.mlp(self.norm2(x))


class GPT(GenerativeModel):
    """p(x) = Π p(x_t | x_<t), each factor the softmax of the logits that the Transformer gives after x_<t.

    A begin symbol (code ``levels + ends``) stands before the first symbol, so that it has a probability too: those of
    all sequences of one length sum to 1; with ``ends`` those of all finite sequences. Bad input: ``ValueError``.

    Parameters:
        levels: number of symbols, 0..levels-1.
        ends: the examples are whole sequences, padded with -1: where they end is learnt and counted, as a symbol
            ``levels``. Otherwise they are stretches of an endless stream.
        length: symbols of an example. Learned positions reach no further; rotary ones do, the less well the further.
        layers, heads, width: of the Transformer.
        positions: "rotary", or "learned": a vector for each.
        norm: "rms" or "layer". activation: "relu2" or "gelu". bias: of linear layers. qk_norm: of attention.
        recent: symbols that the input of a position tells, the last one and those just before it, each by its own
            table (1: as in the papers); so that short memory needs no attention.
    """

    recipe = dict(
        batch_size=8, learning_rate=0.03, schedule="linear", warmup=0.02, weight_decay=0.0, validate_every=500
    )

    def __init__(
        self,
        levels: int,
        ends: bool = False,
        length: int = 128,
        layers: int = 2,
        heads: int = 4,
        width: int = 128,
        positions: str = "rotary",
        norm: str = "rms",
        activation: str = "relu2",
        bias: bool = False,
        qk_norm: bool = True,
        recent: int = 6,
    ):
        super().__init__()
        for name, value in dict(levels=levels, length=length, layers=layers, heads=heads, width=width).items():
            whole_number(name, value, 1)
        whole_number("recent", recent, 1)
        choices = dict(positions=("rotary", "learned"), norm=("rms", "layer"), activation=("relu2", "gelu"))
        given = dict(positions=positions, norm=norm, activation=activation)
        for name, allowed in choices.items():
            if given[name] not in allowed:
                raise ValueError(f"{name} is {' or '.join(allowed)}, not {given[name]!r}")
        if positions == "rotary" and width % (2 * heads):
            raise ValueError(
                f"with rotary positions width is an even multiple of heads, not {width} with {heads} heads"
            )
        self.config = dict(
            levels=levels, ends=ends, length=length, layers=layers, heads=heads, width=width, **given, bias=bias,
            qk_norm=qk_norm, recent=recent,
        )  # fmt: skip
        self.levels, self.ends, self.length, self.recent = levels, bool(ends), length, recent
        self.symbols = levels + self.ends  # what can come next
        self.begin = self.symbols  # code of the begin symbol, which is only ever read
        self.context = length + self.ends  # symbols read: begin, and all but the last predicted
        Norm = RMSNorm if norm == "rms" else nn.LayerNorm
        self.embedding = nn.Embedding(self.symbols + 1, width)  # its rows are also the weights of the output
        self.before = nn.ModuleList(nn.Embedding(self.symbols + 1, width) for _ in range(recent - 1))
        self.position = nn.Embedding(self.context, width) if positions == "learned" else None
        self.blocks = nn.ModuleList(Block(width, heads, Norm, activation, bias, qk_norm) for _ in range(layers))
        self.norm = Norm(width)
        self.norm0 = RMSNorm(width) if norm == "rms" else nn.Identity()  # the stream begins at unit scale
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.5 * module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for block in self.blocks:  # at first each block passes the stream on as it is
            nn.init.zeros_(block.attention.out.weight)
            nn.init.zeros_(block.mlp.down.weight)

    @classmethod
    def from_data(cls, x: Tensor, levels: int | None = None, ends: bool = False, **options) -> GPT:
        """For sequences ``x`` (N, T) of integers padded with -1; ``levels`` where not every symbol occurs in ``x``."""
        x = check_sequences(x, levels or 2**31)
        return cls(levels or int(x.max()) + 1, ends, **{"length": x.shape[1], **options})

    # The network

    def forward(self, tokens: Tensor, past: Past | None = None) -> Tensor:
        """Logits (B, T, symbols) of what follows each of ``tokens`` (B, T), codes 0..symbols (the last one: begin).

        With a ``past`` the tokens come after those of the earlier calls with it, which are not read again.
        """
        turn = self._turn(tokens, past)
        x = self.embed(tokens, past)  # (B, T, width)
        if past is not None and tokens.shape[1] == 1:
            return past.step(x[:, 0], turn, past.attend)[:, None]
        x = self.norm0(x)
        for i, block in enumerate(self.blocks):
            x = block(x, turn, past.layers[i] if past else None)
        return self.norm(x) @ self.embedding.weight[: self.symbols].T  # weight tying: Press & Wolf (2017)

    def embed(self, tokens: Tensor, past: Past | None = None) -> Tensor:
        """The sum of the tables, (B, T, width): the symbol, the ``recent - 1`` before it, the position."""
        start, new = past.layers[0].used if past else 0, tokens.shape[1]
        if self.position is not None and start + new > self.context:
            raise ValueError(f"learned positions reach {self.context} symbols, not {start + new}")
        if past is None:
            x, read = self.embedding(tokens), F.pad(tokens, (self.recent - 1, 0), value=self.begin)
            for i, table in enumerate(self.before, 1):
                x = x + table(read[:, self.recent - 1 - i : -i])
        else:
            x = past.embed(tokens)
        if self.position is not None:
            x = x + self.position.weight[start : start + new]
        return x

    def _turn(self, tokens: Tensor, past: Past | None = None) -> tuple[Tensor, Tensor] | None:
        """For rotary positions: how far the queries and keys of ``tokens`` turn, the same in all layers."""
        if self.position is not None:
            return None
        if past is None or past.turn is None:
            length = tokens.shape[1] if past is None else self.context
            turn = turns(0, length, self.config["width"] // self.config["heads"], self.embedding.weight)
            if past is None:
                return turn
            past.turn = turn
        new = slice(past.layers[0].used, past.layers[0].used + tokens.shape[1])
        return past.turn[0][new], past.turn[1][new]

    def step(self, window: Tensor, at: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One symbol of cached decoding as a function of tensors of fixed shape, which a playground can export.

        ``window`` (recent,): the last symbols read, the newest last (begin symbols before the first); ``at`` (1,): how
        many were read before it, less than the S slots of the cache; ``keys``, ``values`` (layers, heads, S, D), whose
        first ``at`` slots are filled. Returns the logits (symbols,), and key and value (layers, heads, 1, D) for slot
        ``at``.
        """
        x = self.embedding(window[-1:])[None]  # (1, 1, width)
        for i, table in enumerate(self.before, 1):
            x = x + table(window[-1 - i : len(window) - i])
        if self.position is not None:
            x = x + self.position(at.long())
        turn = turns(at, 1, keys.shape[-1], keys) if self.position is None else None
        empty, made = torch.arange(keys.shape[2], device=at.device)[:, None] >= at, []

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            made.append((k[0], v[0]))
            score = torch.cat([(keys[layer] @ q[0].mT).masked_fill(empty, -math.inf), k[0] @ q[0].mT], 1)
            p = (score * self.blocks[layer].attention.scale).softmax(1)  # (heads, S + 1, 1)
            return p[:, :-1].mT @ values[layer] + p[:, -1:] * v[0]

        logits = Step(self)(x[0], turn, attend)[0]
        return logits, torch.stack([k for k, _ in made]), torch.stack([v for _, v in made])

    @torch.no_grad()
    def attention(self, x: Tensor) -> Tensor:
        """Attention maps (layers, B, heads, T, T) for ``x`` (B, T): row t is who predicts x_t; column 0 is begin."""
        tokens, maps = self._framed(x)[0], []
        h, turn = self.norm0(self.embed(tokens)), self._turn(tokens)
        for block in self.blocks:
            maps.append(block.attention.weights(block.norm1(h), turn))
            h = block(h, turn)
        return torch.stack(maps)

    # The likelihood

    def symbol_log_probs(self, x: Tensor) -> Tensor:
        """log p(x_t | x_<t) in nats for ``x`` (B, T): (B, T), with ``ends`` (B, T + 1); 0 at the padding."""
        tokens, targets = self._framed(x)
        log_p = -F.cross_entropy(self(tokens).flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="none")
        return log_p.view(targets.shape)

    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """``x`` (B, T) integers padded with -1: (B,) nats; with ``ends`` the end symbol counts."""
        no_condition(self, condition)
        return self.symbol_log_probs(x).sum(1)

    def loss(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Mean nats per symbol (not per example), the end symbols counted."""
        no_condition(self, condition)
        tokens, targets = self._framed(x)
        return F.cross_entropy(self(tokens).flatten(0, 1), targets.flatten(), ignore_index=-1)

    def terms(self, x: Tensor) -> float:
        return int((x >= 0).sum()) + self.ends * len(x)

    def _framed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is read, (B, L), and what is to be predicted after each symbol, (B, L), padded with -1."""
        x = check_sequences(x, self.levels).to(self.device)
        targets = x
        if self.ends:
            targets = F.pad(x, (0, 1), value=-1)
            targets = targets.scatter(1, (x >= 0).sum(1, keepdim=True), self.levels)
        tokens = F.pad(targets[:, :-1], (1, 0), value=self.begin)
        return tokens.where(tokens >= 0, self.begin), targets  # after the end anything may be read: nothing counts

    # Learning

    def optimizers(self, learning_rate: float, weight_decay: float = 0.0) -> list[torch.optim.Optimizer]:
        """Muon for the blocks' matrices, with the ``learning_rate``; AdamW with a tenth of it for all else."""
        inner = [p for p in self.blocks.parameters() if p.ndim == 2]
        chosen = {id(p) for p in inner}
        others = [p for p in self.parameters() if id(p) not in chosen]
        adamw = dict(lr=0.2 * learning_rate, betas=(0.9, 0.99), weight_decay=weight_decay)
        return [Muon(inner, others, matrix_lr=learning_rate, **adamw)]

    # Sampling

    @torch.no_grad()
    def next_probs(self, context: Tensor) -> Tensor:
        """p(next symbol | context), (B, symbols), for contexts (B, L) of symbols, L from 0."""
        context = self._unpadded("a context", context)
        begin = context.new_full((len(context), 1), self.begin)
        return self(torch.cat([begin, context], 1))[:, -1].softmax(-1)

    def _unpadded(self, what: str, x: Tensor) -> Tensor:
        """Symbols ``x`` (N, L), L from 0, checked, on the model's device."""
        if not isinstance(x, Tensor) or x.ndim != 2 or x.numel():
            x = check_sequences(x, self.levels)
            if x.min() < 0:
                raise ValueError(f"{what} has no padding, but this holds -1")
        return x.to(self.device).long()

    @torch.no_grad()
    def sample(
        self,
        n: int,
        condition: Tensor | None = None,
        *,
        length: int | None = None,
        prefix: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        cached: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``n`` sequences (n, length) int64, drawn symbol by symbol, after ``prefix`` (L,) or (n, L), which they hold.

        With ``ends`` a sequence ends where the model ends it, padded with -1, or is cut at ``length``. ``temperature``,
        ``top_k``, ``top_p``: :func:`helpers.decoding.adjust`. Where the context is full, reading starts anew with the
        later half of it. ``cached=False`` reads everything again for each symbol: the same sequences, slowly.
        """
        no_condition(self, condition)
        n, length = whole_number("n", n, 0), whole_number("length", self.length if length is None else length, 1)
        prefix = torch.empty(1, 0, dtype=torch.int64) if prefix is None else prefix
        prefix = self._unpadded("a prefix", prefix[None] if isinstance(prefix, Tensor) and prefix.ndim == 1 else prefix)
        if len(prefix) not in (1, n):
            raise ValueError(f"one prefix for all or one for each of the {n} sequences is needed, not {len(prefix)}")
        prefix = prefix.expand(n, -1)[:, :length]
        begin = torch.full((n, 1), self.begin, dtype=torch.int64, device=self.device)
        read, past = [], Past(self) if cached else None

        def step(new: Tensor) -> Tensor:
            nonlocal past
            read.append(new)
            if past is None or past.layers[0].used + new.shape[1] > self.context:
                new = torch.cat(read, 1)
                if new.shape[1] > self.context:
                    new = torch.cat([begin, new[:, new.shape[1] - self.context // 2 :]], 1)
                read[:], past = [new], Past(self) if cached else None
            return self(new, past)[:, -1]

        with torch.inference_mode():  # keeps less account than no_grad, which takes time at each operation
            drawn = decoding.decode(
                step, torch.cat([begin, prefix], 1), length - prefix.shape[1], temperature=temperature, k=top_k,
                p=top_p, end=self.levels if self.ends else None, generator=generator,
            )  # fmt: skip
        return torch.cat([prefix, drawn], 1)


class Step:
    """The blocks of a GPT for one symbol of each row. The gain of each norm is in the matrix behind it.

    So little is left but the products: what else is computed would take as long as these, with so few numbers.
    """

    def __init__(self, model: GPT):
        rms, width = isinstance(model.norm, RMSNorm), model.config["width"]
        self.norm = unit if rms else lambda x: F.layer_norm(x, (width,))
        self.gain0 = model.norm0.gain * width**0.5 if rms else None

        def behind(norm: nn.Module, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
            if rms:
                return weight * (norm.gain * width**0.5), bias
            return weight * norm.weight, weight @ norm.bias + (0 if bias is None else bias)

        self.blocks = []
        for b in model.blocks:
            qkv, up = behind(b.norm1, *b.attention.qkv.parameters()), behind(b.norm2, *b.mlp.up.parameters())
            out, down = tuple(b.attention.out.parameters()), tuple(b.mlp.down.parameters())
            self.blocks.append((b.attention.split, qkv, out, b.mlp.activate, up, down))
        self.output = behind(model.norm, model.embedding.weight[: model.symbols])

    def __call__(self, x: Tensor, turn: tuple[Tensor, Tensor] | None, attend: Callable) -> Tensor:
        """Logits (B, symbols) for the sum of the tables ``x`` (B, width).

        ``attend(layer, q, k, v)`` is given query, key and value of the symbol, (B, heads, 1, D) each, and returns what
        the heads gather from it and from the past, of B · heads · D numbers.
        """
        x = x if self.gain0 is None else unit(x) * self.gain0
        for layer, (split, qkv, out, activate, up, down) in enumerate(self.blocks):
            y = attend(layer, *split(F.linear(self.norm(x), *qkv)[:, None], turn))
            x = x + F.linear(y.reshape(x.shape), *out)
            x = x + F.linear(activate(F.linear(self.norm(x), *up)), *down)
        return F.linear(self.norm(x), *self.output)


class Past:
    """What a GPT has read: the keys and values of each layer, and the last symbols, which the input tells."""

    def __init__(self, model: GPT):
        self.step, self.scale = Step(model), model.blocks[0].attention.scale
        self.layers, self.begin, self.tokens = [Cache(model.context) for _ in model.blocks], model.begin, None
        tables = [table.weight for table in (*model.before[::-1], model.embedding)]
        self.tables = torch.cat(tables)
        self.first = torch.arange(model.recent, device=model.device) * len(tables[0])  # row of each table
        self.turn = None  # how far each position turns, computed once

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """For :class:`Step`: one query sees all that was read, and itself."""
        return F.scaled_dot_product_attention(q, *self.layers[layer].add(k, v), scale=self.scale)

    def embed(self, tokens: Tensor) -> Tensor:
        """(B, T, width), the sum over the tables that :meth:`GPT.embed` takes one by one: one look-up is faster."""
        if self.tokens is None:
            self.tokens = tokens.new_full((len(tokens), len(self.first) - 1), self.begin)
        read = torch.cat([self.tokens, tokens], 1)
        self.tokens = read[:, tokens.shape[1] :]
        return self.tables[self.first + read.unfold(1, len(self.first), 1)].sum(2)


FAMILY = GPT
