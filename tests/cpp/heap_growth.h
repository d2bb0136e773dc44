// How much more is allocated than freed, counted in the functions of malloc themselves: heap_growth.cpp replaces them
// for the whole process, so drivers and libraries are counted as well.
//
// glibc's own figure (mallinfo2) is no measure of growth. It counts freed chunks that a thread keeps for its next
// allocations as in use, up to 235 KiB a thread in glibc 2.36, and these caches fill over tens of thousands of steps.
#pragma once

#include <cstdint>

struct HeapGrowth {
  std::int64_t bytes = 0;
  std::int64_t blocks = 0;
};

// From here on allocations are counted; until then they cost what they always do.
void begin_heap_growth();

// What was allocated since then, less what was freed. What other threads hold for a moment is in it.
HeapGrowth heap_growth();
