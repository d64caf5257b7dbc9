#!/usr/bin/env python3
"""./dev bench import: an archive into an empty store and unpacked, beside the peers. See image_bench.py."""
import image_bench

image_bench.into_private_mounts()
image_bench.compare("import", 2.0)
