"""The blocks of a denoiser that repeat, compiled without a render that waits for it. Only in the child.

A run is made with compiled blocks as a whole, or without: where it meets shapes that are not compiled, it begins again
without, and they are compiled after it, by a thread beside the renders, with zeros for inputs. torch keeps what it made
with the code of a block, so all blocks of one class share it, and on disk, so that the next process need not compile.
What is compiled for one LoRA serves every other one of the same layers (see `block_copies`).
"""

import threading
from collections.abc import Callable, Hashable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from types import MethodType
from typing import Any, TypeVar
from weakref import ReferenceType, WeakKeyDictionary, ref

import torch
from loguru import logger
from torch.utils import _pytree

from dreamforge.gpu_runner.rendering.block_copies import copy_of, has_loras, padded, weights_of
from dreamforge.gpu_runner.rendering.renderer import first_line

Result = TypeVar("Result")
Module = torch.nn.Module
#: Of torch.compile: a name, or a function of a graph and inputs like its own. Any: they have no common type.
Backend = str | Callable[..., Any]
#: A copy of a block, and the inputs that it was called with, without their numbers. Any: a tree of the block's inputs.
Met = tuple[Module, Any]
#: Shapes of one model that are compiled: our choice, for the sizes and batches that people use. torch compiles one
#: piece of code for as many only if it is told so; its own limit is 8.
SIGNATURES_MAX = 64


class _NotCompiled(Exception):
    """A run that began with compiled blocks has met shapes that are not compiled."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class CompiledBlocks:
    """The blocks of one pipeline while they may be compiled, each with its own `forward`."""

    blocks: dict[Module, Callable[..., Any]]  # Any: each class of blocks has its own inputs and outputs
    backend: Backend
    #: Why nothing more is compiled; empty: nothing failed.
    failure: str = ""
    #: What can be called compiled. Replaced as a whole, so that it may be read beside the thread that compiles.
    ready: frozenset[Hashable] = frozenset()
    #: What was handed to the thread that compiles, until it is compiled; None: it is, or has failed.
    asked: dict[Hashable, Met | None] = field(default_factory=dict)
    # Of the run that goes on: what it may call compiled (None: nothing), what it has called, what it has met.
    _using: frozenset[Hashable] | None = None
    _variant: Hashable = None
    _at_once: bool = False
    _calls: int = 0
    #: Whether what is computed without has to be computed with other layers than what is compiled.
    _begins_again: bool = False
    _met: dict[Hashable, Met] = field(default_factory=dict)
    _compiled: dict[Module, Callable[..., Any]] = field(default_factory=dict)

    def put_on(self) -> None:
        """Have every block ask this object how it is computed."""
        for block in self.blocks:
            block.forward = partial(self._call, block)

    def take_off(self) -> None:
        """Every block as it was."""
        for block in self.blocks:
            vars(block).pop("forward", None)

    def run(self, variant: Hashable, proceed: Callable[[], Result], *, at_once: bool) -> tuple[Result, bool]:
        """What `proceed` gives, and whether all blocks were compiled in it, or none.

        variant: what else the code of the blocks depends on. at_once: compile in the run, and wait for it.
        """
        self._variant, self._at_once, self._met = variant, at_once, {}
        self._using, self._calls = self.ready, 0
        self._begins_again = has_loras(self.blocks)
        try:
            with padded(self.blocks) if self._begins_again else nullcontext():
                return proceed(), self._calls > 0
        except _NotCompiled:
            self._using = None
            return proceed(), False
        finally:
            self._using, self._at_once = None, False

    def to_ask(self) -> tuple[Hashable, ...]:
        """What the last run has met that is not compiled and was not asked for yet. It counts as asked for now."""
        new = [signature for signature in self._met if signature not in {*self.asked, *self.ready}]
        new = [] if self.failure else new[: max(0, SIGNATURES_MAX - len(self.asked))]
        self.asked |= {signature: self._met[signature] for signature in new}
        self._met = {}
        return tuple(new)

    def compile_asked(self, signature: Hashable) -> None:
        """Compile what was asked for. Errors: as `compile`, and then it may be asked for again."""
        met, self.asked[signature] = self.asked[signature], None
        if met is None or signature in self.ready:
            return
        try:
            self.compile(signature, *met)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            del self.asked[signature]
            raise

    def compile(self, signature: Hashable, copy: Module, shapes: Any) -> None:  # Any: see `Met`
        """Compile for one signature, or keep why it cannot be done. Errors: out of memory, or the device is lost."""
        if self.failure:
            return
        try:
            torch._dynamo.config.recompile_limit = SIGNATURES_MAX
            arguments, named = _zeros(shapes)
            with torch.no_grad():
                self._to_compile(MethodType(type(copy).forward, copy))(*arguments, **named)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except Exception as error:  # whatever a compiler says: images are rendered without it
            # torch wraps what a compiler raises into words about its own internals.
            self.failure = first_line(getattr(error, "inner_exception", error))
        else:
            self.ready |= {signature}

    def _call(self, block: Module, /, *arguments: Any, **named: Any) -> Any:  # Any: see `blocks`
        """What a block's `forward` is, meanwhile. Errors: _NotCompiled, and whatever the block raises."""
        signature = (self._variant, _signature(block, arguments, named))
        if self._using is None or signature not in self._using:
            self._meet(signature, block, arguments, named)
        if self._using is None:
            return self.blocks[block](*arguments, **named)
        self._calls += 1
        if block not in self._compiled:
            self._compiled[block] = self._to_compile(self.blocks[block])
        return self._compiled[block](*arguments, **named)

    def _meet(self, signature: Hashable, block: Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Shapes that are not compiled: they are now, or this run goes on, or begins again, without."""
        known = signature in self.ready or (self._using is None and signature in self.asked)
        if not known and signature not in self._met:
            self._met[signature] = (copy_of(block), _shapes(arguments, named))
        if self._using is None:
            return
        if self._at_once:
            self.compile(signature, *self._met[signature])
            self._using = self.ready
        if signature not in self._using:
            if self._calls or self._begins_again:
                raise _NotCompiled
            self._using = None

    def _to_compile(self, forward: Callable[..., Any]) -> Callable[..., Any]:  # Any: see `blocks`
        made: Callable[..., Any] = torch.compile(forward, fullgraph=True, dynamic=False, backend=self.backend)
        return made


class BlockCompiler:
    """The blocks of all pipelines, and the thread that compiles them; it is started with the first of them.

    backend: what torch.compile compiles with; all but "inductor" are for tests.
    """

    def __init__(self, backend: Backend = "inductor") -> None:
        self._backend = backend
        self._of: WeakKeyDictionary[Any, CompiledBlocks] = WeakKeyDictionary()  # Any: see `Optimisations`
        # Weak: a model that leaves the memory is not held by what was to be done for it.
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def put_on(self, pipeline: Any, denoisers: list[Any]) -> None:  # Any: see `optimisations.denoisers_of`
        """Compile this pipeline's blocks from now on."""
        if pipeline not in self._of:
            found = {block: block.forward for part in denoisers for block in repeated_blocks(part)}
            self._of[pipeline] = CompiledBlocks(found, self._backend)
        self._of[pipeline].put_on()

    def take_off(self, pipeline: Any) -> None:  # Any: as above
        """Its blocks as they were; what was compiled is kept for the next time."""
        if (blocks := self._of.get(pipeline)) is not None:
            blocks.take_off()

    def hindrance(self, pipeline: Any) -> str:  # Any: as above
        """Why what lies on this pipeline's blocks now is not compiled; empty: it is."""
        blocks = self._of[pipeline].blocks
        hooked = any(part._forward_hooks for block in blocks for part in block.modules())
        return "a LoHa, LoKr or DoRA is computed beside the layers" if hooked else ""

    def failure(self, pipeline: Any) -> str:  # Any: as above
        """Why this pipeline's blocks cannot be compiled; empty: nothing failed."""
        return blocks.failure if (blocks := self._of.get(pipeline)) is not None else ""

    def run(
        self, pipeline: Any, variant: Hashable, proceed: Callable[[], Result], *, at_once: bool
    ) -> tuple[Result, bool]:  # Any: as above
        """See `CompiledBlocks.run`. What it met is compiled next."""
        blocks = self._of[pipeline]
        try:
            return blocks.run(variant, proceed, at_once=at_once)
        finally:
            for signature in blocks.to_ask():
                self._put(partial(_compile, ref(blocks), signature))

    def wait(self) -> None:
        """Until all that was met so far is compiled, or has failed."""
        done = threading.Event()
        self._put(done.set)
        done.wait()

    def _put(self, work: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._compile_all, name="block-compiler", daemon=True)
            self._thread.start()
        self._work.put(work)

    def _compile_all(self) -> None:
        while True:
            self._work.get()()


def repeated_blocks(part: Module) -> list[Module]:
    """The blocks that a denoiser is made of, as diffusers lists them by class; empty: it lists none."""
    names = getattr(part, "_repeated_blocks", None) or ()
    return [module for module in part.modules() if type(module).__name__ in names]


def _compile(of: "ReferenceType[CompiledBlocks]", signature: Hashable) -> None:
    """Compile if the model is still in memory."""
    if (blocks := of()) is None:
        return
    try:
        blocks.compile_asked(signature)
    except (torch.OutOfMemoryError, torch.AcceleratorError) as error:
        logger.warning("blocks are not compiled now: {}", first_line(error))


def _signature(block: Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> Hashable:  # Any: of each block
    """What torch compiles a block anew for: shapes, layouts and types of its weights and inputs, and other values."""
    leaves, tree = _pytree.tree_flatten((arguments, named))
    return type(block), weights_of(block), str(tree), tuple(_of_leaf(leaf) for leaf in leaves)


def _of_leaf(leaf: Any) -> Hashable:  # Any: an input, or a part of one
    if isinstance(leaf, torch.Tensor):
        return leaf.shape, leaf.stride(), leaf.dtype, leaf.device
    return leaf if isinstance(leaf, (bool, int, float, str, type(None))) else str(type(leaf))


def _shapes(arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:  # Any: a tree of inputs
    """The same inputs with tensors that have no memory, each with the device that it shall be made on."""
    return _pytree.tree_map_only(
        torch.Tensor,
        lambda given: _Shape(given.shape, given.stride(), given.dtype, given.device),
        (arguments, named),
    )


@dataclass(frozen=True, slots=True)
class _Shape:
    """A tensor without its numbers."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


def _zeros(shapes: Any) -> Any:  # Any: as `_shapes` gives it
    def made(shape: _Shape) -> torch.Tensor:
        return torch.empty_strided(shape.sizes, shape.strides, dtype=shape.dtype, device=shape.device).zero_()

    return _pytree.tree_map_only(_Shape, made, shapes)
