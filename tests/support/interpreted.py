"""Without a GPU, Triton's interpreter is to run the CUDA kernels: import this before Triton."""

import os

import torch

CUDA = torch.cuda.is_available()
if not CUDA:  # read when its functions and the kernels are made
    os.environ["TRITON_INTERPRET"] = "1"
