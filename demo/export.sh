#!/bin/sh
# Exports adder.pth to adder.pte: one VulkanBackend delegate. PYTHON needs executorch==1.5.1 and torch==2.14.1.
set -e
cd "$(dirname "$0")"
PYTHON=${PYTHON:-python}
logs=$(mktemp -d)
"$PYTHON" -m executorch.extension.llm.export.export_llm --config export.yaml \
  hydra.run.dir="$logs" hydra.output_subdir=null
"$PYTHON" check.py
