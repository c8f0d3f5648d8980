"""Turn the autoencoder into a token autoencoder (VQ) for the masked model: params `vq` → mini/pipeline/data/vq/.

It starts from the trained `AutoencoderKL`, its codebook from the k-means centres of that one's latents.
"""

from typing import Any

import torch
from torch import Tensor

from mini.inputs import encode_images
from mini.render_scenes import ARRANGED, read_scenes
from mini.settings import DATA, load_settings
from mini.train_vae import FOLDER as VAE
from mini.train_vae import LATENTS, LAYOUT, reconstruction_loss
from mini.training import Step, compute_device, finish, fit, to_tensor
from promptroute.runtime.stage import run_stage

FOLDER = DATA / "vq"
CODES = 512


def new_vq(codes: int = CODES) -> Any:
    """Make an untrained `VQModel`: 64 × 64 pixels ↔ 16 × 16 tokens."""
    from diffusers import VQModel

    return VQModel(**LAYOUT, num_vq_embeddings=codes, lookup_from_codebook=True)


def start_from(vq: Any, vae: Any, images: Any, seed: int) -> None:
    """Initialise a `VQModel` from an autoencoder, and its codebook from the centres of that one's latents."""
    from sklearn.cluster import MiniBatchKMeans

    theirs = vae.state_dict()
    for name in ("encoder.conv_out.weight", "encoder.conv_out.bias", "quant_conv.weight", "quant_conv.bias"):
        theirs[name] = theirs[name][: 2 * LATENTS if name.startswith("encoder") else LATENTS]
    # The first half of an AutoencoderKL's moments are the means; fold both convolutions into the last one.
    out, bias = theirs["encoder.conv_out.weight"], theirs["encoder.conv_out.bias"]
    mix = theirs["quant_conv.weight"][:, :, 0, 0]
    theirs["encoder.conv_out.weight"] = torch.einsum("om,mihw->oihw", mix, out)
    theirs["encoder.conv_out.bias"] = mix @ bias + theirs["quant_conv.bias"]
    theirs["quant_conv.weight"] = torch.eye(LATENTS)[:, :, None, None]
    theirs["quant_conv.bias"] = torch.zeros(LATENTS)
    missing, unexpected = vq.load_state_dict(theirs, strict=False)
    if unexpected or set(missing) != {"quantize.embedding.weight"}:
        raise ValueError(f"the autoencoder's weights do not fit: {missing} {unexpected}")
    latents = encode_images(images, lambda batch: vq.quant_conv(vq.encoder(batch)), "cpu")
    points = latents.permute(0, 2, 3, 1).reshape(-1, LATENTS).numpy()
    centres = MiniBatchKMeans(vq.config.num_vq_embeddings, random_state=seed, n_init=1, batch_size=8192).fit(
        points
    )
    vq.quantize.embedding.weight.data = torch.from_numpy(centres.cluster_centers_).float()


def train(images: Any, vae: Any, settings: dict[str, Any], device: str) -> tuple[Any, list[float]]:
    """Train on images, uint8 [n, 64, 64, 3]; return the token autoencoder and the loss of each step."""
    vq = new_vq()
    start_from(vq, vae, images[:1500], settings["seed"])
    vq.to(device)

    def loss_of(step: Step) -> Tensor:
        target = to_tensor(images[step.rows(len(images), settings["batch"])], device)
        quantized, commitment, _ = vq.quantize(vq.encode(target).latents)
        output = vq.decoder(vq.post_quant_conv(quantized))
        return reconstruction_loss(output, target) + commitment

    return vq, fit("vq", vq, loss_of, settings)


def main() -> str:
    from diffusers import AutoencoderKL

    settings = load_settings("vq")
    images, _ = read_scenes(ARRANGED)
    vq, losses = train(images, AutoencoderKL.from_pretrained(VAE), settings, compute_device())
    return finish("vq", settings, FOLDER, vq.cpu().save_pretrained, losses)


if __name__ == "__main__":
    run_stage(main)
