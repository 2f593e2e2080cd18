"""Problem: frozen data with declared axes and units that evaluates, and never searches.

A subclass declares fields (:func:`data`, :func:`option`), decision variables (:func:`variable`),
``sense``, and implements ``objective`` and ``constraints``. It becomes a frozen keyword-only
dataclass by itself. Whatever else it offers is optional: forms (``@offers``), baselines
(``points``), a bound from a witness (``bound``), a projection, a place in training
(``from_round``, ``to_decision``).

Batch: arrays are stored unbroadcast, copied and read-only; the batch shape is the broadcast of
what precedes the declared axes. ``problem[i]`` indexes the batch, ``select`` the devices.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar, dataclass_transform

import numpy as np

from rralloc.errors import InvalidProblem, NotOffered
from rralloc.fields import Constraint, Data, Option, Variable, data, info_of, option, read
from rralloc.forms import Smooth, offers
from rralloc.numerics.shapes import batched
from rralloc.typing import Array, Point, Witness

if TYPE_CHECKING:
    from rralloc.policy import Decision, Round

F = TypeVar("F")


@dataclass_transform(
    kw_only_default=True,
    frozen_default=True,
    eq_default=False,
    field_specifiers=(data, option),
)
class Problem:
    """Base of all problems; see the module docstring and CONTRIBUTING.md for how to write one."""

    sense: ClassVar[Literal["min", "max"]] = "min"
    unit: ClassVar[str] = "1"
    """Unit of the objective."""
    source: ClassVar[str] = ""
    """Where the mathematics comes from."""
    bound_method: ClassVar[str] = ""
    """What proves the numbers that ``bound`` returns; empty where there is no bound."""
    differentiable: ClassVar[bool] = True
    """Objective and constraints are complex-analytic in the interior (then complex step works)."""
    variables: ClassVar[tuple[Variable, ...]] = ()
    _data: ClassVar[Mapping[str, Data]] = {}
    _options: ClassVar[Mapping[str, Option]] = {}
    _optional: ClassVar[frozenset[str]] = frozenset()
    _offers: ClassVar[Mapping[type, str]] = {}
    _aliases: ClassVar[Mapping[str, str]] = {}
    """Constructor keyword -> attribute, where they differ."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # In a notebook cell a field may stand without annotation; type checkers want ``Field``.
        typed = dict(vars(cls).get("__annotations__", {}))
        bare = [n for n, v in vars(cls).items() if isinstance(v, dataclasses.Field)]
        cls.__annotations__ = typed | {n: Any for n in bare if n not in typed}
        make: Any = dataclasses.dataclass(frozen=True, eq=False, kw_only=True, repr=False)
        fields = dataclasses.fields(make(cls))
        infos = {f.name: info_of(f) for f in fields}
        cls._data = {n: i for n, i in infos.items() if isinstance(i, Data)}
        cls._optional = frozenset(f.name for f in fields if f.default is None)
        cls._options = {n: i for n, i in infos.items() if isinstance(i, Option)}
        cls._aliases = {i.alias: n for n, i in cls._options.items() if i.alias}
        if cls._aliases:
            _rename_keywords(cls)
        inherited = {v.name: v for v in cls.variables}
        for name, value in vars(cls).items():
            if isinstance(value, Variable):
                named = dataclasses.replace(value, name=value.name or name)
                inherited[named.name] = named
                setattr(cls, name, named)
        cls.variables = tuple(inherited.values())
        cls._offers = {
            form: name
            for base in reversed(cls.__mro__)
            for name, member in vars(base).items()
            if (form := getattr(member, "__offers__", None)) is not None
        }

    # -- construction -----------------------------------------------------------------------

    def __post_init__(self) -> None:
        owner = type(self).__name__
        for name, info in self._data.items():
            value = getattr(self, name)
            if isinstance(value, str) and value in info.words:
                continue
            if value is not None:
                self.__dict__[name] = read(owner, name, info, value)
            elif name not in self._optional:
                raise InvalidProblem(f"{owner}.{name} is None; give the {info.doc or 'values'}")
        for name, choice in self._options.items():
            value = getattr(self, name)
            if isinstance(value, np.generic):  # one digest for np.float64(1) and 1.0
                value = self.__dict__[name] = value.item()
            if choice.choices is not None and value not in choice.choices:
                allowed = ", ".join(map(repr, choice.choices))
                said = f"{owner}.{choice.alias or name} = {value!r}"
                raise InvalidProblem(f"{said}; choose one of {allowed}")
        self._settle_variables()
        _ = self.sizes, self.batch_shape  # shape errors belong to the constructor
        self.check()

    def check(self) -> None:
        """Conditions that involve several fields; raise ``InvalidProblem``."""

    def _settle_variables(self) -> None:
        """Drop the variables that this instance does not have."""
        if any(v.when for v in type(self).variables):
            kept = [v for v in type(self).variables if v.when is None or getattr(self, v.when)]
            self.__dict__["variables"] = tuple(kept)

    def _arrays(self) -> Iterator[tuple[str, Data, Array]]:
        """The data fields that hold numbers: name, declaration, array."""
        for name, info in self._data.items():
            array = self.__dict__[name]
            if isinstance(array, np.ndarray):
                yield name, info, array

    def _with_arrays(self, change: Callable[[Data, Array], Array]) -> Self:
        """The problem with every array changed; what is None or a word stays."""
        arrays = {n: self.__dict__[n] for n in self._data}
        return self._rebuild(arrays | {n: change(i, a) for n, i, a in self._arrays()})

    @classmethod
    def random(
        cls,
        *,
        K: int,
        batch: int | tuple[int, ...] | None = None,
        rng: np.random.Generator | int | None = None,
        **settings: Any,
    ) -> Self:
        """A random instance with K devices; an int serves as ``rng``; settings replace fields."""
        drawn = cls.random_fields(np.random.default_rng(rng), batched(batch, K))
        return cls(**drawn | settings)

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """Fields of a random instance, per-device arrays of ``shape = (batch..., K)``."""
        raise NotOffered(f"{cls.__name__} has no random generator")

    # -- shapes -----------------------------------------------------------------------------

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Axis name -> size, e.g. ``{"K": 20}``."""
        sizes: dict[str, int] = {}
        seen: dict[str, str] = {}
        for name, info, array in self._arrays():
            for axis, size in zip(info.axes, array.shape[array.ndim - len(info.axes) :]):
                known = sizes.get(axis, 1)
                if size != 1 and known not in (1, size):
                    raise InvalidProblem(
                        f"{type(self).__name__}: axis {axis} has size {known} in {seen[axis]} "
                        f"and {size} in {name}; give every field the same devices"
                    )
                if size != 1 or axis not in sizes:
                    sizes[axis], seen[axis] = max(size, known), name
        return sizes

    @cached_property
    def batch_shape(self) -> tuple[int, ...]:
        """The broadcast of what precedes the declared axes."""
        shapes = {n: s for n, s in self._batch_shapes() if s}
        try:
            return np.broadcast_shapes(*shapes.values())
        except ValueError:
            listed = ", ".join(f"{n}: {s}" for n, s in shapes.items())
            raise InvalidProblem(
                f"{type(self).__name__}: batch shapes do not broadcast ({listed}); what precedes "
                "the declared axes must agree or be 1"
            ) from None

    def _batch_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        for name, info, array in self._arrays():
            yield name, array.shape[: array.ndim - len(info.axes)]

    @property
    def size(self) -> int:
        """Number of instances in the batch."""
        return math.prod(self.batch_shape)

    def shape_of(self, var: Variable) -> tuple[int, ...]:
        """Shape of a decision variable, batch first."""
        return self.batch_shape + tuple(self.sizes[a] for a in var.axes)

    def _rebuild(self, arrays: dict[str, Any]) -> Self:
        new = object.__new__(type(self))
        values = new.__dict__
        for name in self._options:
            values[name] = self.__dict__[name]
        for name, array in arrays.items():
            if isinstance(array, np.ndarray) and array.flags.writeable:
                array.setflags(write=False)
            values[name] = array
        new._settle_variables()
        return new

    def __getitem__(self, index: Any) -> Self:
        """Index the batch axes only; devices are chosen by :meth:`select`."""
        batch = self.batch_shape
        if not batch:
            raise IndexError(f"{type(self).__name__} is one instance, not a batch")
        # Positions on the batch axes alone: an index with too many axes must not reach the devices.
        where = np.unravel_index(np.arange(self.size).reshape(batch)[index], batch)

        def picked(info: Data, array: Array) -> Array:
            lead = array.shape[: array.ndim - len(info.axes)]
            if lead == batch:
                array = array[where]
            elif lead:
                array = np.broadcast_to(array, batch + array.shape[len(lead) :])[where]
            return np.asarray(array)

        return self._with_arrays(picked)

    def __len__(self) -> int:
        if not self.batch_shape:
            raise TypeError(f"{type(self).__name__} is one instance and has no length")
        return self.batch_shape[0]

    def __iter__(self) -> Iterator[Self]:
        return (self[i] for i in range(len(self)))

    def select(self, **masks: Any) -> Self:
        """The problem of some devices only: ``problem.select(K=mask)`` with a mask or indices."""
        unknown = set(masks) - set(self.sizes)
        if unknown:
            raise InvalidProblem(f"no axis {sorted(unknown)}; this problem has {self.sizes}")
        picked = {a: np.arange(self.sizes[a])[np.asarray(m)].reshape(-1) for a, m in masks.items()}
        empty = [axis for axis, kept in picked.items() if not kept.size]
        if empty:
            raise InvalidProblem(f"select leaves nothing on axis {empty[0]}; keep at least one")

        def kept(info: Data, array: Array) -> Array:
            for position, axis in enumerate(info.axes, array.ndim - len(info.axes)):
                if axis in picked and array.shape[position] == self.sizes[axis]:
                    array = np.take(array, picked[axis], axis=position)
            return array

        return self._with_arrays(kept)

    def flat(self) -> Self:
        """The same instances with one batch axis and every field broadcast to its full shape."""
        batch, size = self.batch_shape, self.size

        def full(info: Data, array: Array) -> Array:
            shape = batch + tuple(self.sizes[a] for a in info.axes)
            if array.shape != shape:
                array = np.broadcast_to(array, shape)
            return array.reshape((size, *shape[len(batch) :]))

        new = self._with_arrays(full)
        new.__dict__.update(sizes=self.sizes, batch_shape=(size,))  # known: not to be found again
        return new

    def replace(self, **changes: Any) -> Self:
        """A checked copy with some fields changed."""
        held = {n: self.__dict__[n] for n in (*self._data, *self._options)}
        return type(self)(**held | {self._aliases.get(n, n): v for n, v in changes.items()})

    # -- identity ---------------------------------------------------------------------------

    @cached_property
    def digest(self) -> str:
        """Content hash: equal for equal class, options and arrays; serves as scenario id."""
        import hashlib

        sha = hashlib.sha256(type(self).__qualname__.encode())
        for name in self._options:
            sha.update(f"|{name}={self.__dict__[name]!r}".encode())
        for name in self._data:
            array = self.__dict__[name]
            sha.update(f"|{name}".encode())
            if isinstance(array, str):
                sha.update(array.encode())
            elif array is not None:
                sha.update(f"{array.dtype.kind}{array.shape}".encode())
                sha.update(np.ascontiguousarray(array).tobytes())
        return sha.hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __getstate__(self) -> dict[str, Any]:
        # Fields only: cached shapes are cheap to find again, cached forms hold closures.
        return {n: self.__dict__[n] for n in (*self._data, *self._options)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for value in state.values():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
        self.__dict__.update(state)
        self._settle_variables()

    def __repr__(self) -> str:
        axes = [f"{a}={n}" for a, n in self.sizes.items()]
        chosen = [f"{i.alias or n}={self.__dict__[n]!r}" for n, i in self._options.items()]
        batch = [f"batch={self.batch_shape}"] if self.batch_shape else []
        return f"{type(self).__name__}({', '.join(axes + batch + chosen)})"

    # -- evaluation -------------------------------------------------------------------------

    def objective(self, x: Point) -> Array:
        """The objective ``(...)`` in its own sense; +-inf outside the domain, never NaN."""
        raise NotImplementedError

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """Slacks beyond the variables' own bounds."""
        return ()

    def gradient(self, x: Point) -> dict[str, Array]:
        """Derivative of ``objective`` for each variable, by complex step unless overridden."""
        from rralloc.numerics.complex_step import gradient

        if not self.differentiable:
            raise NotOffered(f"{type(self).__name__} is not differentiable in its variables")
        return gradient(self.objective, x)

    def limits(self, var: Variable) -> tuple[Array | float, Array | float, Array | float]:
        """Lower bound, upper bound and scale of a variable, broadcastable to its shape."""
        low, high, scale = (self._resolve(v, var) for v in (var.low, var.high, var.scale))
        return low, high, scale

    def _resolve(self, value: float | str, var: Variable) -> Array | float:
        if not isinstance(value, str):
            return value
        array: Array = getattr(self, value)
        declared = self._data.get(value)
        missing = len(var.axes) - len(declared.axes if declared else var.axes)
        return array[(..., *([None] * missing))] if missing else array

    def project(self, x: Point) -> dict[str, Array]:
        """A nearby point inside the variables' bounds; override to meet budgets too."""
        out = dict(x)
        for var in self.variables:
            if var.name in out and not var.derived:
                low, high, _ = self.limits(var)
                out[var.name] = np.clip(out[var.name], low, high)
        return out

    def complete(self, x: Point) -> dict[str, Array]:
        """Fill in derived variables; a false claim in ``x`` is overwritten."""
        return dict(x)

    def points(self) -> dict[str, Callable[[], Point]]:
        """Named baselines, each a rule people use; the first is the default start."""
        return {}

    def initial(self) -> dict[str, Array]:
        """A feasible start: the first baseline, else the middle of the box."""
        for rule in self.points().values():
            return dict(rule())
        start = {}
        for var in self.variables:
            low, high, scale = self.limits(var)
            low = np.where(np.isfinite(low), low, -np.asarray(scale))
            high = np.where(np.isfinite(high), high, np.asarray(scale))
            start[var.name] = np.broadcast_to((low + high) / 2, self.shape_of(var)).copy()
        return self.project(start)

    def sample(self, rng: np.random.Generator) -> dict[str, Array]:
        """A random point: uniform in the box (or up to the scale), then projected."""
        drawn = {}
        for var in self.variables:
            if not var.derived:
                low, high, scale = self.limits(var)
                high = np.where(np.isfinite(high), high, np.asarray(scale))
                low = np.where(np.isfinite(low), low, -np.asarray(scale))
                drawn[var.name] = low + (high - low) * rng.uniform(size=self.shape_of(var))
        return self.project(drawn)

    def infeasible(self) -> Array | bool:
        """Mask ``(...)`` of instances proven to have no feasible point."""
        return False

    def why_infeasible(self) -> str:
        """For one infeasible instance: who is to blame, in radio words and units."""
        return "no feasible point"

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """What no feasible point can beat ``(...)``, from a witness or, failing that, from x.

        Any witness gives a valid bound; a good one a tight bound. NaN means no bound.
        """
        return np.full(self.batch_shape, np.nan)

    def note(self) -> str:
        """A sentence a user must know about this instance, e.g. an excluded device."""
        return ""

    # -- forms ------------------------------------------------------------------------------

    def view(self, form: type[F]) -> F:
        """The instance as ``form``, or ``NotOffered`` with the reason; built once, then kept."""
        views: dict[type, Any] = self.__dict__.setdefault("_views", {})
        if form not in views:
            supplier = self._offers.get(form)
            if supplier is None:
                raise NotOffered(f"{type(self).__name__} has no {form.__name__} form")
            views[form] = getattr(self, supplier)()
        supplied: F = views[form]
        return supplied

    @offers(Smooth)
    def smooth(self) -> Smooth:
        """Flat coordinates, each variable divided by its scale; override for better ones."""
        from rralloc.smooth import scaled

        return scaled(self)

    reports: ClassVar[tuple[str, ...]] = ()
    """Statistics of this round's updates that ``from_round`` reads; a policy on it must ask."""
    default_solver: ClassVar[str | None] = None
    """Name of the solver to take when none is given; None means the first that applies."""

    # -- training ---------------------------------------------------------------------------

    @classmethod
    def from_round(cls, round: Round) -> Self:
        """The problem a server solves in this round, from what it has received."""
        raise NotOffered(f"{cls.__name__} is not a per-round training problem")

    @classmethod
    def training_scheme(cls) -> Any:
        """What devices send in training when a policy solves this problem; None: any scheme."""
        return None

    def to_decision(self, x: Point, round: Round, rng: np.random.Generator) -> Decision:
        """What the server does with a solution; a law is drawn from here."""
        raise NotOffered(f"{type(self).__name__} does not say how a server acts on a solution")


def _rename_keywords(cls: type[Problem]) -> None:
    """Let the constructor take each option under its alias (or, when copying, under its name)."""
    made: Any = vars(cls)["__init__"]
    names = {attribute: word for word, attribute in cls._aliases.items()}

    def renamed(self: Problem, **given: Any) -> None:
        made(self, **{cls._aliases.get(n, n): v for n, v in given.items()})

    shown = signature(made)
    told = [p.replace(name=names.get(p.name, p.name)) for p in shown.parameters.values()]
    renamed.__signature__ = shown.replace(parameters=told)  # type: ignore[attr-defined]  # read by inspect
    type.__setattr__(cls, "__init__", renamed)  # the dataclass's own, renamed


def stack(problems: Sequence[Problem]) -> Problem:
    """Join problems of one class, equal options and equal shapes along a new first batch axis."""
    if not problems:
        raise InvalidProblem("stack needs at least one problem")
    first = problems[0]
    for other in problems[1:]:
        same = type(other) is type(first) and (other.batch_shape, other.sizes) == (
            first.batch_shape,
            first.sizes,
        )
        if not (same and all(getattr(other, n) == getattr(first, n) for n in first._options)):
            raise InvalidProblem(f"cannot stack {other!r} on {first!r}: class, shapes or options")
    arrays: dict[str, Any] = {}
    for name, info in first._data.items():
        columns = [p.__dict__[name] for p in problems]
        missing = [not isinstance(c, np.ndarray) for c in columns]
        if any(missing) and not (all(missing) and len(set(columns)) == 1):
            raise InvalidProblem(f"cannot stack: {name} is given in some problems, not in others")
        arrays[name] = columns[0]
        if not missing[0]:
            tails = [c.shape[c.ndim - len(info.axes) :] for c in columns]
            full = [np.broadcast_to(c, first.batch_shape + t) for c, t in zip(columns, tails)]
            arrays[name] = np.stack(np.broadcast_arrays(*full))
    return type(first)(**arrays, **{n: getattr(first, n) for n in first._options})
