"""Pretrained weights that are on this machine: in the hub's cache, or fetched from the Python registry."""

from pathlib import Path

import timm

from polytag.models.weight_packages import PACKAGES, fetched_weights


def cached_weights(backbone: str) -> Path | None:
    """The safetensors file of timm's weights of this backbone in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(backbone)
    name = (config and config.hf_hub_filename) or "model.safetensors"
    if config is None or not config.hf_hub_id or not name.endswith(".safetensors"):
        return None
    found = try_to_load_from_cache(config.hf_hub_id, name)
    return Path(found) if isinstance(found, str) else None


def weights_at_hand() -> list[str]:
    """The backbones whose pretrained weights are here: the fetched ones, then those in the hub's cache by name."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = sorted(repo.repo_id for repo in scan_cache_dir().repos if repo.repo_id.startswith("timm/"))
    except CacheNotFound:
        repos = []
    of_hub = [repo.removeprefix("timm/") for repo in repos]
    return [name for name in PACKAGES if fetched_weights(name)] + [
        name for name in of_hub if timm.is_model(name) and cached_weights(name)
    ]
