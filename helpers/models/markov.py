"""Markov chains of any order on integer sequences (Markov 1913), with additive smoothing.

Only contexts that occurred are kept, so an order of 5 over 68 characters costs what the text costs, not 68⁶ numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from helpers.models.base import GenerativeModel
from helpers.models.checks import check_sequences, no_condition, whole_number


class MarkovChain(GenerativeModel):
    """p(x_t | x_<t) = p(x_t | the ``order`` symbols before it) = (c(context, x_t) + α) / (c(context) + α·A).

    Parameters:
        levels: number of symbols, 0..levels-1.
        order: length of the context; 0: independent symbols.
        ends: the examples are whole sequences: where they begin and end is learnt too. A begin symbol fills the
            context of the first symbols, and an end symbol (code ``levels``) counts in the likelihood, so that the
            probabilities of all finite sequences, the empty one included, sum to 1. Otherwise they are pieces of an
            endless stream: those of each one length sum to 1, and the first symbols have shorter contexts.
        smoothing: α, pseudo-count of each of the A symbols in each context (A counts the end symbol). 0: maximum
            likelihood; then a symbol never seen after a context has log-probability -inf. A context never seen gives
            the uniform distribution.
        length: of the sequences that ``sample`` draws, unless it is told another.
    """

    recipe: dict = {}
    backs_off = False  # what γ weighs: False the uniform distribution, True the distribution of the shorter context

    def __init__(self, levels: int, order: int = 1, ends: bool = False, smoothing: float = 1.0, length: int = 100):
        super().__init__()
        if not 0 <= smoothing < float("inf"):
            raise ValueError(f"smoothing is a finite number from 0, not {smoothing!r}")
        self.config = dict(levels=levels, order=order, ends=ends, smoothing=smoothing, length=length)
        self._set_up(levels, order, ends, length)

    def _set_up(self, levels: int, order: int, ends: bool, length: int) -> None:
        self.levels, self.order = whole_number("levels", levels, 1), whole_number("order", order, 0)
        self.ends, self.length = bool(ends), whole_number("length", length, 1)
        self.symbols = self.levels + self.ends  # A: what can come next
        self.base = self.symbols + self.ends  # with the begin symbol, which is only ever context
        # For each context length k: the sorted keys of the grams seen (context's number · base + symbol), the share p
        # of each, and the weight γ of what is backed off to after each context. The last entry, found by the index -1,
        # stands for everything never seen.
        for k in range(self.order + 1):
            self.register_buffer(f"keys_{k}", torch.empty(0, dtype=torch.int64))
            self.register_buffer(f"p_{k}", torch.zeros(1, dtype=torch.float64))
            self.register_buffer(f"gamma_{k}", torch.ones(1, dtype=torch.float64))

    @classmethod
    def from_data(cls, x: Tensor, *, levels: int | None = None, ends: bool | None = None, **options):
        """For ``x`` (N, T) integers padded with -1, or one running text (T,). Padding means whole sequences."""
        rows = x[None] if isinstance(x, Tensor) and x.ndim == 1 else x
        rows = check_sequences(rows, levels or 2**31)
        options.setdefault("length", min(rows.shape[1], 1000))
        ends = bool((rows < 0).any()) if ends is None else ends
        return cls(levels or int(rows.max()) + 1, ends=ends, **options)

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        for name, buffer in list(self.named_buffers()):  # tables are as long as what was seen
            if prefix + name in state_dict:
                setattr(self, name, buffer.new_empty(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _framed(self, x: Tensor) -> Tensor:
        """(N, T) checked; for whole sequences with ``order`` begin symbols before them and the end symbol behind."""
        x = check_sequences(x, self.levels).to(self.device)
        if not self.ends:
            return x
        x = torch.cat([x, torch.full_like(x[:, :1], -1)], 1)
        x.scatter_(1, (x >= 0).sum(1, keepdim=True), self.symbols - 1)
        return torch.cat([x.new_full((len(x), self.order), self.base - 1), x], 1)

    def _key(self, context: Tensor | None, x: Tensor) -> Tensor:
        """Key of the gram that ends with each symbol of ``x`` (N, L), given the numbers of the grams one shorter."""
        if context is None:
            return x
        context = torch.cat([torch.full_like(context[:, :1], -1), context[:, :-1]], 1)  # (N, L): that ended before it
        return torch.where((context >= 0) & (x >= 0), context * self.base + x, -1)

    def _find(self, k: int, key: Tensor) -> Tensor:
        """Numbers of the grams with these keys, -1 for those never seen."""
        keys = getattr(self, f"keys_{k}")
        if len(keys) == 0:
            return torch.full_like(key, -1)
        place = torch.searchsorted(keys, key.contiguous()).clamp_(max=len(keys) - 1)
        return torch.where(keys[place] == key, place, -1)

    @torch.no_grad()
    def fit(self, x: Tensor, condition: Tensor | None = None) -> MarkovChain:
        """Learn from ``x`` (N, T) integers padded with -1, or from one running text (T,), by counting once."""
        no_condition(self, condition)
        x = self._framed(x[None] if isinstance(x, Tensor) and x.ndim == 1 and not self.ends else x)
        number, grams, shorter, raw = None, [], [], []
        for k in range(self.order + 1):
            key = self._key(number, x)
            keys, found = torch.unique(key, return_inverse=True)
            missing = int(keys[0] < 0)  # the key -1 is none: no such context, or padding
            without_first = torch.zeros_like(keys)  # number of the gram without its first symbol
            if k:
                without_first[found] = number
            number = found - missing
            grams.append(keys[missing:])
            shorter.append(without_first[missing:])
            raw.append(torch.bincount(found.flatten(), minlength=len(keys))[missing:])
            setattr(self, f"keys_{k}", grams[k])
        contexts = 1
        for k, keys in enumerate(grams):
            real = keys % self.base < self.symbols  # does not end in the begin symbol
            counts = self._counts(k, raw, shorter).double() * real
            share, gamma = self._estimate(counts, keys // self.base if k else torch.zeros_like(keys), contexts)
            setattr(self, f"p_{k}", torch.cat([share, share.new_zeros(1)]))
            setattr(self, f"gamma_{k}", torch.cat([gamma, gamma.new_ones(1)]))
            contexts = len(keys)
        return self

    def _counts(self, k: int, raw: list[Tensor], shorter: list[Tensor]) -> Tensor:
        """Of each gram of k + 1 symbols: how often it occurs."""
        return raw[k]

    def _estimate(self, counts: Tensor, context: Tensor, contexts: int) -> tuple[Tensor, Tensor]:
        """Share of each gram in its context, and γ of each context, such that both sum to 1 over the symbols."""
        alpha = self.config["smoothing"]
        total = counts.new_zeros(contexts).index_add_(0, context, counts)
        mass = total + alpha * self.symbols
        gamma = torch.where(total > 0, alpha * self.symbols / mass, 1.0)
        return counts / mass.clamp(min=1e-300)[context], gamma

    @torch.no_grad()
    def symbol_log_probs(self, x: Tensor) -> Tensor:
        """log p(x_t | x_<t) in nats for ``x`` (N, T): (N, T), for whole sequences (N, T + 1); 0 at the padding."""
        symbols = self._framed(x)
        uniform = torch.tensor(1 / self.symbols, dtype=torch.float64, device=symbols.device)
        p, number = uniform.expand(symbols.shape), None
        for k in range(self.order + 1):
            before = torch.zeros_like(symbols) if k == 0 else number[:, :-1]  # number of the k symbols before each
            number = self._find(k, self._key(number, symbols))
            at = min(k, 1)
            rest = p[:, at:] if self.backs_off else uniform
            new = getattr(self, f"p_{k}")[number[:, at:]] + getattr(self, f"gamma_{k}")[before] * rest
            p = torch.cat([p[:, :k], new[:, max(k - 1, 0) :]], 1)  # the first k symbols lack such a context
        p = torch.where(symbols >= 0, p, 1.0).log()
        return p[:, self.order :] if self.ends else p

    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """``x`` (N, T) integers padded with -1: (N,) nats, float64."""
        no_condition(self, condition)
        return self.symbol_log_probs(x).sum(1)

    @torch.no_grad()
    def next_probs(self, context: Tensor) -> Tensor:
        """p(next symbol | context), (N, A) float64, for contexts (N, L) of symbols, L from 0.

        The end symbol, if the model has one, comes last. Of a longer context only the last ``order`` symbols matter;
        to a whole sequence the context is its beginning. Any context has a distribution, seen or not.
        """
        if not isinstance(context, Tensor) or context.ndim != 2 or context.is_floating_point():
            raise ValueError(f"contexts are integers (N, L); got {getattr(context, 'shape', type(context).__name__)}")
        context = context.to(self.device).long()
        if context.numel() and (context.min() < 0 or context.max() >= self.levels):
            raise ValueError(f"symbols of a context are 0..{self.levels - 1}; got {context.min()}..{context.max()}")
        if self.ends:
            context = torch.cat([context.new_full((len(context), self.order), self.base - 1), context], 1)
        context = context[:, context.shape[1] - min(self.order, context.shape[1]) :]
        uniform = torch.full((len(context), self.symbols), 1 / self.symbols, dtype=torch.float64, device=self.device)
        symbols, p, number = torch.arange(self.symbols, device=self.device), uniform, None
        for k in range(context.shape[1] + 1):  # with k symbols of context
            last = torch.zeros_like(uniform[:, :1], dtype=torch.int64) if k == 0 else number[:, -1:]
            key = torch.where(last >= 0, last * self.base + symbols, -1)
            rest = p if self.backs_off else uniform
            p = getattr(self, f"p_{k}")[self._find(k, key)] + getattr(self, f"gamma_{k}")[last] * rest
            number = self._find(k, self._key(number, context))  # of the grams of k + 1 symbols within the context
        return p

    @torch.no_grad()
    def sample(
        self,
        n: int,
        condition: Tensor | None = None,
        *,
        length: int | None = None,
        prefix: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``n`` sequences (n, length) int64, drawn symbol by symbol, after ``prefix`` (L,) or (n, L), which they hold.

        Whole sequences end where the model ends them, padded with -1; one that has not ended is cut at ``length``.
        ValueError: a prefix of another shape or dtype, or with a symbol out of range.
        """
        no_condition(self, condition)
        n, length = whole_number("n", n, 0), whole_number("length", self.length if length is None else length, 1)
        prefix = torch.empty(0, dtype=torch.int64) if prefix is None else prefix
        if not isinstance(prefix, Tensor) or prefix.is_floating_point() or prefix.shape[:-1] not in ((), (1,), (n,)):
            got = f"{prefix.dtype} {tuple(prefix.shape)}" if isinstance(prefix, Tensor) else type(prefix).__name__
            raise ValueError(f"a prefix is integers (L,) or ({n}, L); got {got}")
        if prefix.numel() and (prefix.min() < 0 or prefix.max() >= self.levels):
            raise ValueError(f"symbols of a prefix are 0..{self.levels - 1}; got {prefix.min()}..{prefix.max()}")
        x = prefix.to(self.device).long().expand(n, prefix.shape[-1])
        out = torch.full((n, length), -1, dtype=torch.int64, device=self.device)
        out[:, : x.shape[1]] = x[:, :length]
        going = torch.ones(n, dtype=torch.bool, device=self.device)
        for t in range(x.shape[1], length):
            p = self.next_probs(out[going, :t] if self.ends else out[:, max(0, t - self.order) : t])
            new = torch.multinomial(p, 1, generator=generator)[:, 0]
            out[going, t] = torch.where(new < self.levels, new, -1)
            going[going.clone()] = new < self.levels
            if not going.any():
                return out[:, :t]
        return out


FAMILY = MarkovChain
