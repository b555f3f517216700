"""The networks of other packages that are made without trust, and the arguments they may be given.

Two lists say what is allowed, so that whatever a new version of these packages brings is not
allowed until somebody has looked at it. None of the arguments takes an address or a path.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from torch import nn

from napari_cnnvis.errors import CheckpointError, shortened

__all__ = ["check_words", "checked_arguments", "is_allowed", "is_importable"]

#: classes and builders of networks, by package
_NETWORKS_TEXT = {
    "monai.networks.nets": """
        AttentionUnet AutoEncoder BasicUNet BasicUNetPlusPlus Classifier Critic DenseNet
        DenseNet121 DenseNet169 DenseNet201 DenseNet264 Discriminator DynUNet EfficientNet
        EfficientNetBN FullyConnectedNet HighResNet Regressor ResNet SENet SENet154 SEResNet50
        SEResNet101 SEResNet152 SEResNext50 SEResNext101 SegResNet SegResNetDS SegResNetVAE
        SwinUNETR UNETR UNet VNet VarAutoEncoder ViT ViTAutoEnc
        resnet10 resnet18 resnet34 resnet50 resnet101 resnet152 resnet200
    """,
    "torchvision.models": """
        MViT SwinTransformer3d VideoResNet mc3_18 mvit_v1_b mvit_v2_s r2plus1d_18 r3d_18 s3d S3D
        swin3d_b swin3d_s swin3d_t
    """,
    "napari_cnnvis.models": "VoxVGG VoxResNet VoxResNetGAP Conv5_FC3 Conv4_FC3",
}
_ARGUMENTS_TEXT = """
    act acti_type adn_ordering adv_prop attention_dropout attn_drop_rate bias bias_downsample
    block block_config block_inplanes blocks_args_str blocks_down blocks_up bn_size
    channel_matching channels classes classification conv1_t_size conv1_t_stride conv_block
    deconv_chns deep_supervision deep_supr_num depth_coefficient depth_divisor depths downsample
    downsample_kernel_size drop_connect_rate drop_rate dropout dropout_dim dropout_path_rate
    dropout_prob dropout_prob_down dropout_prob_up dropout_rate dsdepth embed_dim feature_size
    features feed_forward filters groups growth_rate hidden_channels hidden_size image_size
    img_size in_channels in_shape init_features init_filters inplanes input_3x3 input_image_size
    inter_channels inter_dilations kernel_size latent_size last_act layer_params layers mlp_dim
    mlp_ratio model_name n_classes n_input_channels no_max_pool norm norm_name norm_type normalize
    num_classes num_groups num_heads num_inter_units num_layers num_res_units out_channels
    out_shape patch_norm patch_size pos_embed_type post_activation pretrained progress proj_type
    qkv_bias reduction res_block resolution save_attn shape shortcut_type spatial_dims
    stochastic_depth_prob strides trans_bias up_kernel_size upsample upsample_kernel_size
    upsample_mode use_checkpoint use_conv_final use_mean_at_inference use_v2 vae_default_std
    vae_estimate_std vae_nz weights widen_factor width_coefficient window_size
"""
_NETWORKS = {package: frozenset(names.split()) for package, names in _NETWORKS_TEXT.items()}
_ARGUMENTS = frozenset(_ARGUMENTS_TEXT.split())
#: arguments that ask for a download, and what says no; the weights come from the file
_NO_DOWNLOAD = {"pretrained": False, "weights": None, "weights_backbone": None}
#: "batch", "efficientnet-b0", "r1_k3_s11_e1_i32_o16_se0.25"; no address and no path has this form
_WORD = re.compile(r"[A-Za-z0-9_.+-]{0,80}")
_LARGEST, _LONGEST = 65_536, 1_000


def is_importable(place: str) -> bool:
    """Whether a module is of a package of networks, which a file may name."""
    return any(f"{place}.".startswith(f"{package}.") for package in _NETWORKS)


def is_allowed(found: Any) -> bool:
    """Whether something that was imported is one of the listed networks; it is not called."""
    is_class = isinstance(found, type) and issubclass(found, nn.Module)
    if not is_class and not inspect.isfunction(found):
        return False
    return any(
        found.__qualname__ in names and f"{found.__module__}.".startswith(f"{package}.")
        for package, names in _NETWORKS.items()
    )


def checked_arguments(
    text: str, make: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> dict[str, Any]:
    """The arguments of a listed network by name, none of which asks for a download.

    Raises
    ------
    CheckpointError
        If one is not on the list, or its value is neither a plain number nor a plain word.
        `text` is what the network is called in it.
    """
    signature = inspect.signature(make)
    try:
        bound = signature.bind(*arguments, **keywords).arguments
    except TypeError as exc:
        raise CheckpointError(f"'{text}' cannot be built: {exc}. Check its arguments.") from exc
    given: dict[str, Any] = {}
    for name, value in bound.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            given.update(value)
        else:
            given[name] = value
    for name, value in given.items():
        if name not in _ARGUMENTS and name not in _NO_DOWNLOAD:
            raise CheckpointError(
                f"'{text}' has the argument '{shortened(name, 40)}', which is not one that a network "
                "may be given without trust. Leave it out, or, if you trust where it comes from, say "
                "so: trust=True in Python, --trust on the command line, the tick box in the panel."
            )
        if name not in _NO_DOWNLOAD:
            _check_size(text, name, value)
    check_words(text, given)
    for name, nothing in _NO_DOWNLOAD.items():
        if name in given or name in signature.parameters:
            given[name] = nothing
    return given


def check_words(text: str, keywords: dict[str, Any]) -> None:
    """Refuse addresses and paths.

    Raises
    ------
    CheckpointError
        If a text in the arguments is more than a plain word.
    """
    for name, value in keywords.items():
        for one in _leaves(value):
            if isinstance(one, bytes) or (isinstance(one, str) and not _WORD.fullmatch(one)):
                raise CheckpointError(
                    f"'{text}' has {shortened(repr(one), 60)} for '{shortened(name, 40)}', which is "
                    "no plain word but could be an address or a path; a network is made without it. "
                    "Leave it out, or, if you trust where it comes from, say so: trust=True in "
                    "Python, --trust on the command line, the tick box in the panel."
                )


def _check_size(text: str, name: str, value: Any) -> None:
    leaves = list(_leaves(value))
    largest = max((abs(n) for n in leaves if isinstance(n, int | float)), default=0)
    if largest > _LARGEST or len(leaves) > _LONGEST:
        raise CheckpointError(
            f"'{text}' has {shortened(repr(value), 60)} for '{shortened(name, 40)}', which is larger "
            f"than any network has (numbers up to {_LARGEST:,}, lists of up to {_LONGEST:,}). Check "
            "the arguments of the network."
        )


def _leaves(value: Any) -> Iterator[Any]:
    """What is inside lists and dictionaries; keys of dictionaries, too."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(key)
            yield from _leaves(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value
