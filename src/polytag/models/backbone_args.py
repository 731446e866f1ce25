"""Which heads, and names and arguments of timm's models, may come from a recipe or a file: numbers, switches, words.

timm's `create_model` takes far more: addresses and paths of weights, folders to write to, names of repositories. A checkpoint or a
run folder may come from a stranger, so nothing passes that is not listed here. Imports neither torch nor timm.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from polytag.own_parts import FEATURES, OWN_BACKBONE
from polytag.plain import WrongValue, is_finite, shown

HEADS = ("linear", "concat-pool", "csra")
"""What reads the backbone's maps; `models.heads` has them."""
_MAX_ITEMS = 64
_SWITCHES = (
    "always_partition avg_down class_token conv_bias conv_mlp cpe_act dynamic_img_pad dynamic_img_size fc_norm final_norm fix_stem "
    "head_bias head_norm head_norm_first no_embed_class patch_norm pre_norm proj_bias qk_norm qkv_bias qkv_fused "
    "replace_stem_pool scale_attn_norm scale_mlp scale_mlp_norm se_from_exp stem_norm strict_img_size swiglu_mlp "
    "use_abs_pos use_abs_pos_emb use_fc_norm use_grn use_layer_scale use_pos_embed use_post_norm use_rel_pos "
    "use_rel_pos_bias use_rot_pos_emb use_shared_rel_pos_bias zero_init_last"
)
_RATES = "attn_drop_rate drop_block_rate drop_path_rate drop_rate patch_drop_rate pos_drop_rate proj_drop_rate"
_DEPTHS = "block_config depth depth_list depths k_sec layers num_blocks stages"
_SIZES = (
    "base_width block_reduce_first cardinality channels dim dims down_kernel_size down_patch_size embed_dim embed_dims "
    "expand_groups groups growth_rate head_dim head_hidden_size head_widths heads img_size init_channels kernel_size "
    "kernel_sizes key_dim neck_chans num_features num_heads num_init_features num_kv_heads num_reg_tokens num_vit "
    "out_features output_stride patch_size q_stride reg_tokens sr_ratios stem_chs stem_hidden_dim stem_size stem_width "
    "width_list widths window_size window_sizes"
)
_FACTORS = (
    "attn_ratio bottle_ratio conv_ratio depth_mult dim_mul expand_ratio expansion_ratio head_init_scale head_mul "
    "init_values layer_scale_init_value ls_init_value mlp_ratio mlp_ratios norm_eps rope_temperature se_ratio width "
    "width_factor width_mult window_ratio"
)
_WORDS = "aa_layer act_layer attn_type down_op downsample global_pool norm_layer pad_type pos_embed stem_type"


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What an argument may be: a description, the test of one value, and whether a list of such values is one too."""

    expected: str
    fits: Callable[[object], bool]
    in_lists: bool = True


def _whole(highest: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= highest


def _number(highest: float) -> Callable[[object], bool]:
    return lambda value: is_finite(value) and 0 <= value <= highest  # pyright: ignore[reportOperatorIssue]


def _is_word(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_]{0,40}", value) is not None


_SWITCH = _Kind(expected="true or false", fits=lambda value: isinstance(value, bool))
_RATE = _Kind(expected="a number from 0 to 1", fits=_number(1), in_lists=False)
_DEPTH = _Kind(expected="whole numbers from 0 to 200, one or a list", fits=_whole(200))
_SIZE = _Kind(expected="whole numbers from 0 to 8,192, one or a list", fits=_whole(8192))
_FACTOR = _Kind(expected="numbers from 0 to 1,000,000, one or a list", fits=_number(1e6))
_WORD = _Kind(expected="a word of at most 40 letters, digits and underscores", fits=_is_word, in_lists=False)

_KIND_OF: Mapping[str, _Kind] = {
    **dict.fromkeys(_SWITCHES.split(), _SWITCH),
    **dict.fromkeys(_RATES.split(), _RATE),
    **dict.fromkeys(_DEPTHS.split(), _DEPTH),
    **dict.fromkeys(_SIZES.split(), _SIZE),
    **dict.fromkeys(_FACTORS.split(), _FACTOR),
    **dict.fromkeys(_WORDS.split(), _WORD),
}
BACKBONE_ARGS = tuple(sorted(_KIND_OF))
"""The names of the arguments that reach timm."""


def check_backbone_name(name: object) -> None:
    """Raises WrongValue for what cannot be in timm's own list of models: an address, a path, a repository of the hub."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_]{1,100}(\.[A-Za-z0-9_-]{1,100})?", name):
        raise WrongValue("backbone", name, expected="a model name of timm, without address, path or repository")


def check_head(head: object, *, backbone: str) -> None:
    """Raises WrongValue for a head that this version does not have, or not for this backbone."""
    if head not in HEADS:
        raise WrongValue("head", head, expected="one of " + ", ".join(HEADS) + "; a newer version of polytag may have others")
    if head != "linear" and backbone in (OWN_BACKBONE, FEATURES):
        raise WrongValue("head", head, expected=f"linear with the backbone {backbone}")


def check_backbone_args(args: object) -> None:
    """Raises WrongValue for an argument that is not in BACKBONE_ARGS, and for a value of another kind or size."""
    if not isinstance(args, Mapping):
        raise WrongValue("backbone_args", args, expected="a mapping of names to values")
    for key, value in args.items():
        where = f"backbone_args.{key}" if isinstance(key, str) and _is_word(key) else f"backbone_args, {shown(key)}"
        kind = _KIND_OF.get(key) if isinstance(key, str) else None
        if kind is None:
            raise WrongValue(
                where,
                value,
                expected="arguments of the architecture alone, such as drop_rate; docs/reference/recipes.md lists them",
            )
        is_list = isinstance(value, list | tuple) and kind.in_lists
        items: Sequence[object] = value if is_list else [value]  # pyright: ignore[reportAssignmentType]
        if not 1 <= len(items) <= _MAX_ITEMS or not all(map(kind.fits, items)):
            raise WrongValue(where, value, expected=kind.expected)
