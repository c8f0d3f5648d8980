"""Turn the autoencoder into one of tokens, for the masked model: params `vq` → data/mini/vq/.

Its parts start as those of the trained `AutoencoderKL`, and its codebook as the k-means centres of their latents.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mini.draw_scenes import TIDY, read_scenes
from mini.inputs import encode_images
from mini.settings import load_settings
from mini.train_vae import FOLDER as VAE
from mini.train_vae import LATENTS, LAYOUT, reconstruction_loss
from mini.training import Step, compute_device, finish, fit, to_tensor
from promptroute.runtime.stage import run_stage

FOLDER = Path("data/mini/vq")
CODES = 512


def new_vq(codes: int = CODES) -> Any:
    """An untrained `VQModel`: 64 × 64 pixels ↔ 16 × 16 tokens."""
    from diffusers import VQModel

    return VQModel(**LAYOUT, num_vq_embeddings=codes, lookup_from_codebook=True)


def start_from(vq: Any, vae: Any, images: Any, seed: int) -> None:
    """Give a `VQModel` the parts of an autoencoder, and the centres of its latents as codebook."""
    from sklearn.cluster import MiniBatchKMeans

    theirs = vae.state_dict()
    for name in ("encoder.conv_out.weight", "encoder.conv_out.bias", "quant_conv.weight", "quant_conv.bias"):
        theirs[name] = theirs[name][: 2 * LATENTS if name.startswith("encoder") else LATENTS]
    # the first half of an AutoencoderKL's moments are the means; fold both convolutions into the last one
    out, bias = theirs["encoder.conv_out.weight"], theirs["encoder.conv_out.bias"]
    mix = theirs["quant_conv.weight"][:, :, 0, 0]
    theirs["encoder.conv_out.weight"] = torch.einsum("om,mihw->oihw", mix, out)
    theirs["encoder.conv_out.bias"] = mix @ bias + theirs["quant_conv.bias"]
    theirs["quant_conv.weight"] = torch.eye(LATENTS)[:, :, None, None]
    theirs["quant_conv.bias"] = torch.zeros(LATENTS)
    missing, unexpected = vq.load_state_dict(theirs, strict=False)
    if unexpected or set(missing) != {"quantize.embedding.weight"}:
        raise ValueError(f"the autoencoder's parts don't fit: {missing} {unexpected}")
    latents = encode_images(images, lambda batch: vq.quant_conv(vq.encoder(batch)), "cpu")
    points = latents.permute(0, 2, 3, 1).reshape(-1, LATENTS).numpy()
    centres = MiniBatchKMeans(vq.config.num_vq_embeddings, random_state=seed, n_init=1, batch_size=8192).fit(
        points
    )
    vq.quantize.embedding.weight.data = torch.from_numpy(centres.cluster_centers_).float()


def train(images: Any, vae: Any, settings: dict[str, Any], device: str) -> tuple[Any, list[float]]:
    """Train on pictures, uint8 [n, 64, 64, 3]; returns the token autoencoder and the loss of each step."""
    vq = new_vq()
    start_from(vq, vae, images[:1500], settings["seed"])
    vq.to(device)

    def loss_of(step: Step) -> Tensor:
        wanted = to_tensor(images[step.rows(len(images), settings["batch"])], device)
        quantized, commitment, _ = vq.quantize(vq.encode(wanted).latents)
        made = vq.decoder(vq.post_quant_conv(quantized))
        return reconstruction_loss(made, wanted) + commitment

    return vq, fit("vq", vq, loss_of, settings)


def main() -> str:
    from diffusers import AutoencoderKL

    settings = load_settings("vq")
    images, _ = read_scenes(TIDY)
    vq, losses = train(images, AutoencoderKL.from_pretrained(VAE), settings, compute_device())
    return finish("vq", settings, FOLDER, vq.cpu().save_pretrained, losses)


if __name__ == "__main__":
    run_stage(main)
