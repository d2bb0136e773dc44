"""For `executorch.devtools.Inspector`: what the delegate's events mean, and how they find their way to the source."""

import json
from collections.abc import Iterator
from contextlib import contextmanager


def parse_metadata(metadata: list[bytes | str]) -> dict:
    """Metadata of a kernel's event, of which runs of the same work differ in rates alone; for Inspector's
    `delegate_metadata_parser`.

    Keys: `kernel`, `route`, `grid` (workgroups), `node_ids` (of the operators that the kernel stands for), `bytes`,
    `ops`, `gb_per_s`, `tflop_per_s`.
    """
    return json.loads(metadata[-1]) if metadata and metadata[-1] else {}


@contextmanager
def source_debug_handles() -> Iterator[None]:
    """While this is open, exports with VulkanPartitioner note which source operators their delegates stand for.

    ExecuTorch 1.5.1 overwrites each node's debug handle by the node's position in the delegate before it writes the map
    of the ETRecord, so that Inspector shows other operators than those that ran. The program itself is the same.
    """
    from executorch.backends.vulkan.serialization.vulkan_graph_builder import VkGraphBuilder

    original = VkGraphBuilder.process_node

    def process_node(self, node, position):
        original(self, node, node.meta.get("debug_handle", position))

    VkGraphBuilder.process_node = process_node
    try:
        yield
    finally:
        VkGraphBuilder.process_node = original
