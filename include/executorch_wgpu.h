// Public interface of libexecutorch_backend_wgpu.so beside ExecuTorch's own: plain C, usable through dlopen.
// Linking or loading the library is enough to register the backend; nothing here has to be called.
#pragma once

#if defined(_WIN32)
#define ETWGPU_EXPORT __declspec(dllexport)
#else
#define ETWGPU_EXPORT __attribute__((visibility("default")))
#endif

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Registers the backend as `VulkanBackend` (unless the environment says ETWGPU_AS_VULKAN=0) and as `WgpuBackend`.
// Done when the library is loaded; calling it again is harmless. Returns how many of the two names are ours.
ETWGPU_EXPORT int etwgpu_register(void);

// 1 when the backend registered under `name` is this library's.
ETWGPU_EXPORT int etwgpu_owns(const char* name);

// 1 when there is a GPU adapter to run on.
ETWGPU_EXPORT int etwgpu_is_available(void);

// JSON description of the adapter. Valid until the next call on the same thread.
ETWGPU_EXPORT const char* etwgpu_adapter_info(void);

// Sets a process-wide option. Returns an ExecuTorch error code, 0 when it went well; the reason is logged.
ETWGPU_EXPORT int etwgpu_set_option(const char* key, const char* value);

// Value of a process-wide option, null when there is none. Valid until the next call on the same thread.
ETWGPU_EXPORT const char* etwgpu_get_option(const char* key);

// Bytes of weights that all loads of this process have read so far; grows while a program loads.
ETWGPU_EXPORT uint64_t etwgpu_loaded_bytes(void);

// What all runs of this process have done so far, each on one delegate.
typedef struct etwgpu_totals {
  uint64_t runs;
  uint64_t dispatches;  // kernels launched
  uint64_t submits;     // submissions to the device's queue
  uint64_t uploads;     // writes of inputs and parameters
  uint64_t idle_ns;     // time that calling threads spent on waiting for the device, awake or asleep
  uint64_t spun_ns;     // CPU time of calling threads that went into waiting awake, without the work that ends a wait
} etwgpu_totals;
ETWGPU_EXPORT void etwgpu_read_totals(etwgpu_totals* out);

// Version of this library, and of the ExecuTorch it was built for.
ETWGPU_EXPORT const char* etwgpu_version(void);
ETWGPU_EXPORT const char* etwgpu_executorch_version(void);

#ifdef __cplusplus
}
#endif
