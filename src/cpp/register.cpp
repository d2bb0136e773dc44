// Registers the backend when the library is loaded, and the C functions of executorch_wgpu.h.

#include "executorch_wgpu.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include <executorch/runtime/platform/log.h>
#include <executorch/runtime/platform/runtime.h>

#include "backend.h"
#include "executorch-wgpu/src/lib.rs.h"
#include "options.h"

namespace {

using executorch::runtime::Error;

// The name that programs lowered by VulkanPartitioner ask for, and our own.
constexpr const char* kVulkanName = "VulkanBackend";
constexpr const char* kOwnName = "WgpuBackend";

bool owns(const char* name) { return executorch::runtime::get_backend_class(name) == &etwgpu::backend(); }

// Takes `name` in ExecuTorch's registry; false when somebody else has it or the registry is full.
bool take(const char* name) {
  return owns(name) || executorch::runtime::register_backend({name, &etwgpu::backend()}) == Error::Ok;
}

// Whether the user leaves the name VulkanBackend to another delegate.
bool leaves_vulkan_name() {
  const char* value = std::getenv("ETWGPU_AS_VULKAN");
  return value != nullptr && std::strcmp(value, "0") == 0;
}

const int registered_at_load = etwgpu_register();

}  // namespace

extern "C" {

int etwgpu_register(void) {
  executorch::runtime::runtime_init();  // logging needs it, and a program may not have got to it yet
  int ours = 0;
  if (!leaves_vulkan_name()) {
    if (take(kVulkanName)) {
      ++ours;
    } else {
      ET_LOG(Error,
             "executorch_wgpu: another library already registered VulkanBackend, so programs run there, not here. "
             "Load executorch_wgpu first, or set ETWGPU_AS_VULKAN=0 to leave it the name.");
    }
  }
  if (take(kOwnName)) {
    ++ours;
  } else {
    ET_LOG(Error, "executorch_wgpu: ExecuTorch refused to register WgpuBackend (its table holds 16 backends).");
  }
  return ours;
}

int etwgpu_owns(const char* name) { return owns(name) ? 1 : 0; }

int etwgpu_is_available(void) { return etwgpu::backend().is_available() ? 1 : 0; }

const char* etwgpu_adapter_info(void) {
  thread_local std::string text;
  text = std::string(etwgpu::adapter_info());
  return text.c_str();
}

int etwgpu_set_option(const char* key, const char* value) {
  const auto checked_key = etwgpu::ascii(key, std::strlen(key));
  const auto checked_value = etwgpu::ascii(value, std::strlen(value));
  if (!checked_key || !checked_value) {
    return static_cast<int>(Error::InvalidArgument);
  }
  return static_cast<int>(etwgpu::error_of(etwgpu::set_option(*checked_key, *checked_value)));
}

const char* etwgpu_get_option(const char* key) {
  thread_local std::string text;
  const auto checked_key = etwgpu::ascii(key, std::strlen(key));
  rust::String value;
  if (!checked_key || etwgpu::error_of(etwgpu::get_option(*checked_key, value)) != Error::Ok) {
    return nullptr;
  }
  text = std::string(value);
  return text.c_str();
}

uint64_t etwgpu_loaded_bytes(void) { return etwgpu::loaded_bytes(); }

void etwgpu_read_totals(etwgpu_totals* out) {
  const etwgpu::Totals totals = etwgpu::totals();
  *out = {totals.runs, totals.dispatches, totals.submits, totals.uploads, totals.idle_ns, totals.spun_ns};
}

const char* etwgpu_version(void) { return ETWGPU_VERSION; }

const char* etwgpu_executorch_version(void) { return ETWGPU_EXECUTORCH_VERSION; }

}  // extern "C"
