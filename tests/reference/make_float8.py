"""Makes tests/golden/models/qwen2_fp8{,_channel}: the golden qwen2 in FP8 (e4m3), with expected logits.

    python make_float8.py   (torch, transformers, safetensors, compressed-tensors)

qwen2_fp8: as Qwen publishes them (quant_method fp8, weight_scale_inv), in blocks of 48 x 40, whose last ones are smaller, instead of 128 x 128;
codes by torch's cast. qwen2_fp8_channel: compressed-tensors' float-quantized, a scale for each output, codes and their values by that package.
The logits are transformers' in float32 with code * scale and unquantised activations, what `--activations f32` computes.
"""
import torch
from compressed_tensors.compressors.naive_quantized.base import FloatQuantizationCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from make_compressed import make, scheme_config

BLOCK = (48, 40)
MOST = 448.0  # the greatest e4m3


def spread(scale, shape):
    """One scale a block to one a value."""
    return scale.repeat_interleave(BLOCK[0], 0).repeat_interleave(BLOCK[1], 1)[:shape[0], :shape[1]]


def in_blocks(weight):
    rows, columns = (-(-size // block) for size, block in zip(weight.shape, BLOCK))
    padded = torch.zeros(rows * BLOCK[0], columns * BLOCK[1])
    padded[:weight.shape[0], :weight.shape[1]] = weight.abs()
    scale = (padded.reshape(rows, BLOCK[0], columns, BLOCK[1]).amax((1, 3)) / MOST).to(torch.bfloat16)
    wide = spread(scale.float(), weight.shape)
    codes = (weight / wide).clamp(-MOST, MOST).to(torch.float8_e4m3fn)
    return {"weight": codes, "weight_scale_inv": scale}, codes.float() * wide


def by_channel(weight, args):
    scale = (weight.abs().amax(1, keepdim=True) / MOST).to(torch.bfloat16)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    out = FloatQuantizationCompressor.compress({"weight": weight, "weight_scale": scale}, scheme)
    plain = FloatQuantizationCompressor.decompress({k: v.float() if k == "weight_scale" else v for k, v in out.items()}, scheme)
    return out, plain["weight"].float()


def main():
    torch.set_grad_enabled(False)
    make("qwen2_fp8", {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": list(BLOCK),
                       "modules_to_not_convert": ["lm_head"]}, in_blocks)
    args = QuantizationArgs(num_bits=8, type="float", strategy="channel", symmetric=True)
    config = scheme_config(args, "float-quantized")
    config["config_groups"]["group_0"]["input_activations"] = {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True,
                                                               "symmetric": True}
    make("qwen2_fp8_channel", config, lambda weight: by_channel(weight, args))


if __name__ == "__main__":
    main()
