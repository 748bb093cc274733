"""What torch, diffusers and transformers read from the environment once, when they are imported."""

#: Intel's "conditional numerical reproducibility". Each mode gives other last bits, so recipes name it.
MKL_MODE = "MKL_CBWR"
#: For every process of ours that imports them; see `worker.process` and `supervisor.local_models`.
ENVIRONMENT = {
    # Two spinning OpenMP threads on a busy 2-core machine were measured up to 9 times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Weights come from folders that the supervisor names; nothing may be fetched without it.
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    # Progress bars are not read: every step and every load is a frame of ours.
    "TQDM_DISABLE": "1",
    # NVML counts GPUs in bus order; CUDA does so only with this.
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    # MKL picks kernels by the alignment of memory: on an AMD EPYC with AVX2 only, the same render differed by 1.9e-6
    # between a model held whole and one whose parts were moved. STRICT has one kernel whatever the alignment.
    MKL_MODE: "AUTO,STRICT",
    # cuBLAS is deterministic only with a fixed workspace (CUDA documentation, "Results reproducibility").
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
