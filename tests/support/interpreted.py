"""Import it before the CUDA kernels: without a GPU, Triton's interpreter is to run them."""

import os

import torch

CUDA = torch.cuda.is_available()
if not CUDA:  # read when the kernels are imported, and no other test on a CPU does that
    os.environ["TRITON_INTERPRET"] = "1"
