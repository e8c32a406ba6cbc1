"""A table of embeddings whose rows are truly sparse: values and topology, nothing else."""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from gossamer import counts, sampling, topology
from gossamer.kernels import lookup
from gossamer.nn.parameter import drawn_on_cpu, set_data_
from gossamer.topology import Topology

# size could not be told from the rest: the last columns may be empty.
_SAVED = ("row_pointers", "column_indices", "size")


class SparseEmbedding(nn.Module):
    """Look up rows of a table of which only the active entries exist; the rows come out dense.

    `values` is one plain parameter of shape [num_active]. Its gradient is a dense vector of that shape, also for the
    rows that were not looked up, so every optimizer takes it; repeated indices add up, to the same bits whatever the
    number of threads.

    Args:
        num_embeddings: rows of the table, >= 0.
        embedding_dim: size of the vectors, >= 0.
        sparsity: fraction of the table that does not exist, in [0, 1); the count is exact, see `counts.num_active`.
        padding_idx: a row that starts at zero and gets no gradient; negative counts from the end.
        generator: source of randomness for the topology and the first values, on the CPU.
        dtype: dtype of the values; default: torch's default.

    Input: [*], int32 or int64, in [0, num_embeddings).
    Output: [*, embedding_dim].

    Attributes:
        values: the active entries, row by row, columns ascending, shape [num_active].
        row_pointers, column_indices: the topology in CSR, saved with the state.
        size: num_embeddings and embedding_dim, saved too.

    Raises:
        ValueError: a size is negative, sparsity lies outside [0, 1), or padding_idx names no row.

    Example:
        >>> table = SparseEmbedding(1000, 64, sparsity=0.9, generator=torch.Generator().manual_seed(0))
        >>> table.values.shape, table(torch.tensor([[3, 999], [3, 0]])).shape
        (torch.Size([6400]), torch.Size([2, 2, 64]))

    Source:
        Van Balen, Goethals. High-dimensional sparse embeddings for collaborative filtering. WWW 2021: rows of one table
        have equally many entries, so none is empty.
        Differs: they keep the largest of a closed-form solution; here the places are drawn and the values trained.
        First values: normal, as in `nn.Embedding`, times sqrt(embedding_dim / entries of the row), so that the squared
        length of a row is expected to be embedding_dim, as it is there.

    Cost: memory in float32 and int32: 8 bytes for each active entry and 4 for each row, where `nn.Embedding` takes
    4 embedding_dim for each row, and again for its gradient, here 4 for each active entry. 100 000 x 64 at sparsity
    0.9: 5.5 MB and 2.6 MB of gradient against 25.6 and 25.6 MB; below sparsity 0.5 the table alone costs more than a
    dense one. Time: O(active entries looked up + output) forward, O(num_active + active entries looked up) backward.
    Of 4096 look-ups there the forward pass took twice as long as that of `nn.Embedding`, forward and backward a
    third in all (benchmarks/embedding.py).
    """

    values: nn.Parameter
    row_pointers: Tensor
    column_indices: Tensor
    size: Tensor

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        sparsity: float,
        padding_idx: int | None = None,
        generator: torch.Generator,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_embeddings < 0 or embedding_dim < 0:
            raise ValueError(f"a table cannot have shape ({num_embeddings}, {embedding_dim}); sizes are 0 or more")
        with drawn_on_cpu(self):
            active = counts.num_active(num_embeddings * embedding_dim, sparsity)
            places = _alike((num_embeddings, embedding_dim), active, generator=generator)
            dtype = torch.get_default_dtype() if dtype is None else dtype
            self._build(places, torch.randn(active, generator=generator, device="cpu").to(dtype), padding_idx)
            live = places.row_pointers.diff().clamp(min=1)[topology.row_indices(places)]
            self.values.data.mul_((embedding_dim / live).sqrt().to(dtype))
            if self.padding_idx is not None:
                self.values.data[self._row(self.padding_idx)] = 0.0

    @classmethod
    def from_topology(cls, places: Topology, values: Tensor, *, padding_idx: int | None = None) -> Self:
        """Make a table of given places and values.

        Args:
            places: which entries exist; shape (num_embeddings, embedding_dim).
            values: the active entries in the order of the topology, shape [num_active].
            padding_idx: a row that gets no gradient.

        Raises:
            ValueError: the arrays of the topology are inconsistent, or values or padding_idx do not fit it.
        """
        topology.check_topology(places)
        if values.shape != (places.num_active,):
            raise ValueError(f"values have shape {tuple(values.shape)}, the topology needs ({places.num_active},)")
        table = cls.__new__(cls)
        nn.Module.__init__(table)
        table._build(places, values.detach().clone(), padding_idx)
        return table

    @classmethod
    def from_dense(cls, embedding: nn.Embedding, *, mask: Tensor | None = None) -> Self:
        """Make the truly sparse table that returns what `embedding` returns.

        Args:
            embedding: dense table; it is left as it is.
            mask: bool, shape [num_embeddings, embedding_dim], the entries to keep, zeros among them too. Default: the
                entries that are not zero.

        Raises:
            ValueError: the mask has another shape, or the table rescales its rows or its gradient.

        Example:
            >>> SparseEmbedding.from_dense(nn.Embedding(3, 2, padding_idx=0)).num_active
            4
        """
        if embedding.max_norm is not None or embedding.scale_grad_by_freq:
            raise ValueError(
                f"max_norm is {embedding.max_norm} and scale_grad_by_freq {embedding.scale_grad_by_freq}; a sparse "
                "table has neither: make the dense one with None and False"
            )
        weight = embedding.weight.detach()
        if mask is not None and mask.shape != weight.shape:
            raise ValueError(f"mask has shape {tuple(mask.shape)}, the table {tuple(weight.shape)}; they must agree")
        places = topology.from_mask(weight if mask is None else mask)
        values = weight.flatten()[topology.linear_indices(places)]
        table = cls.from_topology(places, values, padding_idx=embedding.padding_idx)
        table.values.requires_grad_(embedding.weight.requires_grad)
        return table.train(embedding.training)

    def to_dense(self) -> nn.Embedding:
        """Return the dense table that returns the same, zeros where no entry exists."""
        weight = self.values.new_zeros(self.num_embeddings * self.embedding_dim)
        weight[topology.linear_indices(self.topology)] = self.values.detach()
        weight = weight.view(self.num_embeddings, self.embedding_dim)
        frozen = not self.values.requires_grad
        dense: nn.Embedding = nn.Embedding.from_pretrained(weight, freeze=frozen, padding_idx=self.padding_idx)
        return dense.train(self.training)

    @property
    def topology(self) -> Topology:
        """Which entries exist."""
        return Topology((self.num_embeddings, self.embedding_dim), self.row_pointers, self.column_indices)

    @property
    def num_active(self) -> int:
        """Number of entries that exist."""
        return self.values.numel()

    @property
    def sparsity(self) -> float:
        """Fraction of the entries that do not exist."""
        return counts.sparsity_of(self.num_active, self.num_embeddings * self.embedding_dim)

    def replace_(self, places: Topology, values: Tensor) -> None:
        """Give the table other active entries, in place: the parameter stays the same object.

        Args:
            places: which entries exist from now on, same shape as before.
            values: their values, shape [num_active].

        Raises:
            ValueError: another shape, or another number of values than places.
        """
        if tuple(places.shape) != (self.num_embeddings, self.embedding_dim):
            raise ValueError(
                f"places of shape {tuple(places.shape)} for a table of {self.num_embeddings} x {self.embedding_dim}; "
                "they must agree"
            )
        if values.shape != places.column_indices.shape:
            raise ValueError(f"{values.numel()} values for {places.num_active} active entries; they must agree")
        set_data_(self.values, values.detach().to(self.values.dtype, copy=True))
        self._set_topology(places)

    def forward(self, indices: Tensor) -> Tensor:
        """Look up rows; see the class for shapes."""
        padding = -1 if self.padding_idx is None else self.padding_idx
        index = (self.row_pointers, self.column_indices)
        rows = lookup.look_up(indices.reshape(-1), self.values, index, width=self.embedding_dim, padding=padding)
        return rows.view(*indices.shape, self.embedding_dim)

    def extra_repr(self) -> str:
        """Show sizes and sparsity."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return (
            f"{self.num_embeddings}, {self.embedding_dim}{padding}, num_active={self.num_active}, "
            f"sparsity={self.sparsity:.4g}"
        )

    def _build(self, places: Topology, values: Tensor, padding_idx: int | None) -> None:
        self.num_embeddings, self.embedding_dim = places.shape
        if padding_idx is not None and not -self.num_embeddings <= padding_idx < self.num_embeddings:
            raise ValueError(f"padding_idx is {padding_idx}; it must name one of the {self.num_embeddings} rows")
        self.padding_idx = None if padding_idx is None else padding_idx % self.num_embeddings
        self.values = nn.Parameter(values, requires_grad=values.is_floating_point())
        for name in _SAVED:
            self.register_buffer(name, None)
        self.size = torch.tensor(places.shape, device=values.device)
        self._set_topology(places)

    def _set_topology(self, places: Topology) -> None:
        # Copied: a table that shared them would be broken by loading a state into another.
        self.row_pointers, self.column_indices = (
            part.clone(memory_format=torch.contiguous_format) for part in (places.row_pointers, places.column_indices)
        )

    def _row(self, row: int) -> slice:
        return slice(int(self.row_pointers[row]), int(self.row_pointers[row + 1]))

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        # A state may hold another topology, and so another number of values, than this table was born with.
        places = [state_dict.get(prefix + name) for name in (*_SAVED, "values")]
        if any(part is not None for part in places):
            problem = self._make_room(*places)
            if problem:
                error_msgs.append(f"{prefix}values: {problem}")
                return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if not self.row_pointers.is_meta:
            self._set_topology(self.topology)

    def _make_room(self, row_pointers: Any, column_indices: Any, size: Any, values: Any) -> str | None:
        """Check an incoming state and size this table's tensors for it; return what is wrong, if anything."""
        # Half a topology is no topology: with the other half of this table's own it would point anywhere.
        if not all(isinstance(part, Tensor) for part in (row_pointers, column_indices, size, values)):
            return f"values, {', '.join(_SAVED)} must come together, each a tensor; save the table again"
        shape = (self.num_embeddings, self.embedding_dim)
        if size.tolist() != list(shape):
            return f"of a table of size {size.tolist()}, this one has {list(shape)}"
        try:
            topology.check_topology(Topology(shape, row_pointers, column_indices))
        except ValueError as error:
            return str(error)
        if values.shape != column_indices.shape:
            return f"shape {tuple(values.shape)} for {column_indices.numel()} active entries"
        if values.shape != self.values.shape:
            set_data_(self.values, self.values.detach().new_empty(values.shape))
            self.column_indices = self.column_indices.new_empty(values.shape)
        return None


def _alike(shape: tuple[int, int], num_active: int, *, generator: torch.Generator) -> Topology:
    """Draw a topology whose rows have equally many entries, some one more where it does not come out even."""
    rows, columns = shape
    each, over = divmod(num_active, max(rows, 1))
    fuller = torch.zeros(rows, dtype=torch.bool)
    fuller[sampling.distinct(rows, over, generator=generator)] = True
    parts = []
    for which, count in ((~fuller, each), (fuller, each + 1)):
        chosen = which.nonzero()
        if chosen.numel():
            parts.append(chosen * columns + sampling.distinct_in_rows(len(chosen), columns, count, generator=generator))
    linear = torch.cat([part.flatten() for part in parts]) if parts else torch.empty(0, dtype=torch.int64)
    return topology.from_linear(linear.sort().values, shape)
