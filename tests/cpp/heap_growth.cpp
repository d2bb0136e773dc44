#include "heap_growth.h"

#include <malloc.h>

#include <atomic>
#include <cerrno>
#include <cstddef>

// glibc's own functions, under the names that they keep in a program that has its own malloc.
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* block, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
void __libc_free(void* block);
}

namespace {

std::atomic<bool> counting{false};
std::atomic<std::int64_t> bytes{0};
std::atomic<std::int64_t> blocks{0};

void* count(void* block, int sign) {
  if (block != nullptr && counting.load(std::memory_order_relaxed)) {
    bytes.fetch_add(sign * static_cast<std::int64_t>(malloc_usable_size(block)), std::memory_order_relaxed);
    blocks.fetch_add(sign, std::memory_order_relaxed);
  }
  return block;
}

}  // namespace

void begin_heap_growth() {
  bytes = 0;
  blocks = 0;
  counting = true;
}

HeapGrowth heap_growth() { return {bytes.load(), blocks.load()}; }

extern "C" {

void* malloc(std::size_t size) { return count(__libc_malloc(size), 1); }
void* calloc(std::size_t number, std::size_t size) { return count(__libc_calloc(number, size), 1); }
void* memalign(std::size_t alignment, std::size_t size) { return count(__libc_memalign(alignment, size), 1); }
void* aligned_alloc(std::size_t alignment, std::size_t size) { return memalign(alignment, size); }
void free(void* block) { __libc_free(count(block, -1)); }

int posix_memalign(void** block, std::size_t alignment, std::size_t size) {
  if (alignment % sizeof(void*) != 0 || alignment == 0 || (alignment & (alignment - 1)) != 0) {
    return EINVAL;
  }
  void* const aligned = memalign(alignment, size);
  if (aligned == nullptr) {
    return ENOMEM;
  }
  *block = aligned;
  return 0;
}

void* realloc(void* block, std::size_t size) {
  count(block, -1);
  void* const moved = __libc_realloc(block, size);
  if (moved == nullptr && size != 0) {
    count(block, 1);  // it stays as it was
  }
  return count(moved, 1);
}

}  // extern "C"
