"""How each of PyTorch's operations is written with those of ``runtime.js``: the exporter's handlers."""

from __future__ import annotations

import math

import torch

CONVOLUTION = ("stride", "padding", "dilation", "output_padding")


class Handlers:
    """``op_<name>(node, arguments)`` appends operations by ``self.emit`` and returns the name of the result.

    A part of ``export.Writer``, which calls the handler that has an operation's name. Shapes are read from the
    values of the traces (``self.shape``), not from arguments.
    """

    def other(self, a):
        """The second operand of add and sub, whose ``alpha`` scales it."""
        alpha = a.get("alpha", 1)
        other = a.get("other", a.get("exponent"))
        return other if alpha == 1 else self.emit("mul", [other, alpha])

    def op_rsub(self, node, a):
        return self.emit("sub", [a["other"], self.other(a | {"other": a["self"]})])

    def op_div(self, node, a):
        quotient = self.emit("div", [a["self"], a["other"]])
        if a.get("rounding_mode") == "trunc":
            raise ValueError(f"the playground runtime divides exactly or by floor ({self.lines.get('div')})")
        return self.emit("floor", [quotient]) if a.get("rounding_mode") == "floor" else quotient

    def op_floor_divide(self, node, a):
        return self.op_div(node, a | {"rounding_mode": "floor"})

    def op_getitem(self, node, a):
        source, index = node.args
        made = self.where[source]
        if isinstance(made, list):
            return made[index]
        if index:
            raise ValueError(f"only the first result of {source.target} can be used ({self.lines.get(source.name)})")
        return made

    def op_logical_not(self, node, a):
        return self.emit("not", [a["self"]])

    op_bitwise_not = op_logical_not

    def op__to_copy(self, node, a):
        """A change of type: to integers it cuts the fraction off, to bool it compares with 0."""
        before, after = self.value(a["self"]).dtype, self.value(node).dtype
        if after == torch.bool:
            return self.emit("ne", [a["self"], 0])
        if not before.is_floating_point or after.is_floating_point:
            return self.name(a["self"])
        return self.emit("mul", [self.emit("sign", [a["self"]]), self.emit("floor", [self.emit("abs", [a["self"]])])])

    def op_gelu(self, node, a):
        return self.emit("gelu_tanh" if a.get("approximate") == "tanh" else "gelu", [a["self"]])

    def op_leaky_relu(self, node, a):
        return self.emit("leaky_relu", [a["self"]], slope=a["negative_slope"])

    def op_elu(self, node, a):
        return self.emit("elu", [a["self"]], alpha=a["alpha"], scale=a["scale"], rate=a["input_scale"])

    def op_softplus(self, node, a):
        return self.emit("softplus", [a["self"]], beta=a["beta"], threshold=a["threshold"])

    def op_clamp(self, node, a):
        x = a["self"] if a["min"] is None else self.emit("maximum", [a["self"], a["min"]])
        return x if a["max"] is None else self.emit("minimum", [x, a["max"]])

    def op_hardtanh(self, node, a):
        return self.op_clamp(node, a | {"min": a["min_val"], "max": a["max_val"]})

    def op_where(self, node, a):
        return self.emit("where", [a["condition"], a["self"], a["other"]])

    def op_masked_fill(self, node, a):
        return self.emit("where", [a["mask"], a["value"], a["self"]])

    def op_linear(self, node, a):
        return self.emit("linear", [a["input"], a["weight"], *([a["bias"]] if a["bias"] is not None else [])])

    def op_addmm(self, node, a):
        if self.is_constant(a["mat2"]) and a["beta"] == 1 and a["alpha"] == 1:
            return self.emit("linear", [a["mat1"], self.transposed(a["mat2"]), a["self"]])
        product = self.emit("mul", [self.emit("matmul", [a["mat1"], a["mat2"]]), a["alpha"]])
        return self.emit("add", [product, self.emit("mul", [a["self"], a["beta"]])])

    def op_mm(self, node, a):
        if self.is_constant(a["mat2"]):
            return self.emit("linear", [a["self"], self.transposed(a["mat2"])])
        return self.emit("matmul", [a["self"], a["mat2"]])

    def transposed(self, node):
        """A constant (in, out) matrix as (out, in), the layout of ``nn.Linear``, where a row is read in order."""
        return self.constant(self.value(node).t(), computed=False)

    def op_bmm(self, node, a):
        return self.emit("matmul", [a["self"], a["mat2"]])

    def op_matmul(self, node, a):
        return self.emit("matmul", [a["self"], a["other"]])

    def op_convolution(self, node, a):
        """One-dimensional convolutions become two-dimensional ones of height 1."""
        n = len(a["stride"])
        if n > 2:
            raise ValueError(f"the playground runtime has no {n}-D convolution ({self.lines.get('convolution')})")
        x, weight = a["input"], a["weight"]
        settings = {k: [*([0 if k in ("padding", "output_padding") else 1] * (2 - n)), *a[k]] for k in CONVOLUTION}
        if not a["transposed"]:
            del settings["output_padding"]
        if n == 1:
            (rows, channels, width), kernel = self.shape(x), self.value(weight).shape
            x = self.emit("reshape", [x], shape=[rows, channels, 1, width])
            weight = self.emit("reshape", [weight], shape=[*kernel[:2], 1, kernel[2]])
        inputs = [x, weight, *([a["bias"]] if a["bias"] is not None else [])]
        name = self.emit("conv_transpose2d" if a["transposed"] else "conv2d", inputs, groups=a["groups"], **settings)
        return name if n == 2 else self.emit("reshape", [name], shape=self.shape(node))

    def op__softmax(self, node, a):
        return self.emit("softmax", [a["self"]], dim=self.dim(a))

    op_softmax = op__safe_softmax = op__softmax

    def op__log_softmax(self, node, a):
        return self.emit("log_softmax", [a["self"]], dim=self.dim(a))

    op_log_softmax = op__log_softmax

    def dim(self, a, source: str = "self") -> int:
        return a["dim"] % max(1, self.value(a[source]).ndim)

    def op_native_layer_norm(self, node, a):
        inputs = [a["input"], *(x for x in (a["weight"], a["bias"]) if x is not None)]
        if a["weight"] is None and a["bias"] is not None:
            raise ValueError("layer norm with a bias needs a weight")
        return self.emit("layer_norm", inputs, size=math.prod(a["normalized_shape"]), eps=a["eps"])

    def op_native_group_norm(self, node, a):
        inputs = [a["input"], *(x for x in (a["weight"], a["bias"]) if x is not None)]
        return self.emit("group_norm", inputs, groups=a["group"], eps=a["eps"])

    def op_native_batch_norm(self, node, a):
        """In evaluation it is a fixed scale and shift of each channel."""
        x = a["input"]
        if a["training"]:
            raise ValueError(f"batch norm must be in evaluation mode ({self.lines.get('native_batch_norm')})")
        weight, bias, mean, variance = (
            self.value(a[k]) if a[k] is not None else None for k in ("weight", "bias", "running_mean", "running_var")
        )
        scale = torch.rsqrt(variance + a["eps"]) * (1 if weight is None else weight)
        shift = (0 if bias is None else bias) - mean * scale
        shape = [-1] + [1] * (self.value(x).ndim - 2)
        return self.emit("add", [self.emit("mul", [x, scale.reshape(shape)]), shift.reshape(shape)])

    op__native_batch_norm_legit_no_training = op_cudnn_batch_norm = op_native_batch_norm

    def op_embedding(self, node, a):
        return self.emit("take", [a["weight"], a["indices"]], dim=0)

    def op_index_select(self, node, a):
        return self.emit("take", [a["self"], a["index"]], dim=self.dim(a))

    def op_index(self, node, a):
        """Only ``x[:, :, index]``: one index tensor."""
        found = [(i, index) for i, index in enumerate(a["indices"]) if index is not None]
        if len(found) != 1 or self.value(found[0][1]).dtype == torch.bool:
            raise ValueError(f"indexing by more than one tensor, or by a mask, is not exported ({self.lines['index']})")
        return self.emit("take", [a["self"], found[0][1]], dim=found[0][0])

    def op_permute(self, node, a):
        order = [d % len(a["dims"]) for d in a["dims"]]
        return self.emit("permute", [a["self"]], order=order)

    def op_transpose(self, node, a):
        order = list(range(self.value(a["self"]).ndim))
        i, j = a["dim0"], a["dim1"]
        order[i], order[j] = order[j], order[i]
        return self.emit("permute", [a["self"]], order=order)

    def op_t(self, node, a):
        return self.emit("permute", [a["self"]], order=list(range(self.value(a["self"]).ndim))[::-1])

    def op_cat(self, node, a):
        tensors = [x for x in a["tensors"] if self.value(x).numel()]
        return self.emit("cat", tensors, dim=a["dim"] % self.value(node).ndim)

    def op_stack(self, node, a):
        dim = a["dim"] % self.value(node).ndim
        shape = self.shape(node)
        shape[dim] = 1
        return self.emit("cat", [self.emit("reshape", [x], shape=shape) for x in a["tensors"]], dim=dim)

    def op_slice(self, node, a):
        start = self.integer(node, "start") or 0
        return self.cut(a["self"], self.dim(a), start, self.shape(node)[self.dim(a)], a["step"])

    def op_select(self, node, a):
        piece = self.cut(a["self"], self.dim(a), self.integer(node, "index"), 1)
        return self.emit("reshape", [piece], shape=self.shape(node))

    def cut(self, x, dim: int, start, length, step: int = 1) -> str:
        return self.emit("slice", [x], dim=dim, start=start, length=length, step=step)

    def op_split(self, node, a):
        names, start, dim = [], 0, self.dim(a)
        for piece in self.value(node):
            size = piece.shape[dim]
            names.append(self.cut(a["self"], dim, start, size))
            start += size
        if dim == 0 and isinstance(self.shape(a["self"])[0], list):
            raise ValueError(f"the batch itself cannot be split ({self.lines.get('split')})")
        return names

    op_split_with_sizes = op_split

    def op_unbind(self, node, a):
        dim, shape = self.dim(a), self.shape(a["self"])
        rest = shape[:dim] + shape[dim + 1 :]
        pieces = (self.cut(a["self"], dim, i, 1) for i in range(len(self.value(node))))
        return [self.emit("reshape", [piece], shape=rest) for piece in pieces]

    def op_expand(self, node, a):
        return self.shaped("expand", a["self"], self.shape(node))

    def op_copy(self, node, a):
        return self.emit("expand", [a["src"]], shape=self.shape(node))

    def op_repeat(self, node, a):
        x = a["self"]
        dims = self.value(node).ndim
        x = self.emit("reshape", [x], shape=[1] * (dims - self.value(x).ndim) + self.shape(x))
        for dim, times in enumerate(a["repeats"]):
            x = self.emit("cat", [x] * times, dim=dim) if times > 1 else x
        return x

    def op_sum(self, node, a):
        return self.reduce("sum", node, a)

    def op_mean(self, node, a):
        return self.reduce("mean", node, a)

    def op_amax(self, node, a):
        return self.reduce("max", node, a)

    def reduce(self, op: str, node, a) -> str:
        reduced = self.emit(op, [a["self"]], dims=self.dims(a))
        return self.emit("reshape", [reduced], shape=self.shape(node))

    def dims(self, a) -> list[int]:
        """The reduced dimensions, sorted: all where none is named."""
        n, dims = self.value(a["self"]).ndim, a.get("dim")
        dims = range(n) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
        return sorted(d % max(1, n) for d in dims)

    def op_var(self, node, a):
        x, dims = a["self"], self.dims(a)
        centred = self.emit("sub", [x, self.emit("mean", [x], dims=dims)])
        count = math.prod(self.value(x).shape[d] for d in dims)
        total = self.emit("sum", [self.emit("mul", [centred, centred])], dims=dims)
        correction = 1 if a["correction"] is None else a["correction"]
        return self.emit("reshape", [self.emit("div", [total, count - correction])], shape=self.shape(node))

    def op_std(self, node, a):
        return self.emit("sqrt", [self.op_var(node, a)])

    def op_cumsum(self, node, a):
        return self.emit("cumsum", [a["self"]], dim=self.dim(a))

    def op_argmax(self, node, a):
        if a["dim"] is None or self.dim(a) != self.value(a["self"]).ndim - 1:
            raise ValueError(f"argmax is exported over the last dimension only ({self.lines.get('argmax')})")
        return self.emit("reshape", [self.emit("argmax", [a["self"]])], shape=self.shape(node))

    def op_upsample_nearest2d(self, node, a):
        (_, _, height, width), (_, _, h, w) = self.shape(node), self.shape(a["self"])
        if height % h or width % w:
            raise ValueError(f"nearest upsampling is exported for whole factors, got {h}×{w} → {height}×{width}")
        return self.emit("upsample", [a["self"]], by=[height // h, width // w])

    def op_constant_pad_nd(self, node, a):
        """Pads by joining constants."""
        x, shape = a["self"], self.shape(a["self"])
        for i in range(len(a["pad"]) // 2):
            dim = len(shape) - 1 - i
            before, after = a["pad"][2 * i : 2 * i + 2]
            if min(before, after) < 0:
                raise ValueError(f"padding by a negative amount is not exported ({self.lines.get('constant_pad_nd')})")
            value = torch.full([1] * len(shape), float(a["value"]))
            sides = [shape[:dim] + [size] + shape[dim + 1 :] for size in (before, after)]
            parts = [self.emit("expand", [value], shape=side) if side[dim] else None for side in sides]
            parts = [part for part in (parts[0], x, parts[1]) if part is not None]
            x = self.emit("cat", parts, dim=dim) if len(parts) > 1 else x
            shape[dim] += before + after
        return x
