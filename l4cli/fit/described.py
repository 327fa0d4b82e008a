"""The shape of a model that has no GGUF yet: from its entry in models.toml, or its config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from l4cli.errors import InputError, UsageError
from l4cli.fit.cache_shape import CacheShape
from l4cli.fit.shape import Block, ModelShape, TypeBytes, shape_of
from l4cli.models.registry import ModelSpec, Registry

if TYPE_CHECKING:
    from convert.outline import Outline


def described_shape(spec: ModelSpec, ftype: str, registry: Registry) -> ModelShape:
    """Return the shape of a registered model, quantized to `ftype`.

    Raises ConvertError for an unknown type, UsageError if the entry does not state the shape.
    """
    name = f"{spec.name}:{ftype}"
    if spec.like is not None:
        return _scaled(spec, described_shape(registry.find(spec.like), ftype, registry), name)
    return _shape(_config(spec), f"models.toml: models.{spec.name}.config", ftype, name)


def checkpoint_shape(directory: Path, ftype: str) -> ModelShape:
    """Return the shape of a checkpoint quantized to `ftype`, from its config.json alone.

    Raises ConvertError for an unknown type, or if config.json does not state the shape.
    """
    from convert.checkpoint.hparams import Config

    config = Config.load(directory)
    return _shape(config.values, str(config.path), ftype, str(directory))


def _config(spec: ModelSpec) -> Mapping[str, Any]:
    if spec.checkpoint == "demo":
        from l4cli.demo import checkpoint_dir

        config: dict[str, Any] = json.loads((checkpoint_dir() / "config.json").read_text("utf-8"))
        return config
    if not spec.config:
        raise UsageError(
            f"models.toml does not give the shape of {spec.name} (models.{spec.name}.config): "
            "name a GGUF file instead"
        )
    return spec.config


def _shape(config: Mapping[str, Any], where: str, ftype: str, name: str) -> ModelShape:
    """Return the shape for the values of a config.json; `where` names their source in errors."""
    model = _outline(json.dumps(config), where)
    fields = {key: field.value for key, field in model.fields.items()}
    fields["general.architecture"] = model.architecture
    return shape_of(fields.get, model.types(ftype), name=name)


@cache
def _outline(config: str, where: str) -> Outline:
    from convert.outline import outline

    return outline(json.loads(config), where)


def _scaled(spec: ModelSpec, like: ModelShape, name: str) -> ModelShape:
    """Return the shape of a model of which only the total and active parameter counts are known.

    The inactive parameters are those of the experts that a token does not use, so dividing them by
    the number of such experts gives the size of one expert. Routed and dense weights take as many
    bits per parameter as those of `like`. Nothing is known about the layers, so the size of the KV
    cache is not known either (`knows_cache` is False).
    """
    total, active = spec.n_params, spec.n_params_active
    n_idle = like.n_experts - like.n_experts_used
    if not total or not active or active >= total or n_idle < 1:
        raise InputError(f"models.toml: models.{spec.name} needs n_params and n_params_active")
    routed = round((total - active) / n_idle * like.n_experts)
    dense = total - routed
    like_dense = like.dense_bytes + like.embeddings.total
    return ModelShape(
        name=name,
        architecture=like.architecture,
        blocks=(
            Block(
                TypeBytes({"mixed": round(dense * like_dense / like.n_params_dense)}),
                TypeBytes({"mixed": round(routed * like.routed_bytes / like.n_params_routed)}),
            ),
        ),
        cache=CacheShape(0, (), ()),
        embeddings=TypeBytes(),
        output=TypeBytes(),
        n_ctx_train=0,
        n_embd=0,
        n_vocab=0,
        n_merges=0,
        n_heads_width=0,
        n_ff=0,
        n_ff_experts=0,
        n_experts=like.n_experts,
        n_experts_used=like.n_experts_used,
        has_shared_expert=like.has_shared_expert,
        largest_routed=0,
        n_params=total,
        n_params_routed=routed,
        knows_cache=False,
    )
