#!/usr/bin/env python3
"""./dev bench pull: a cold image from a registry on loopback to unpacked, beside the peers. See image_bench.py."""
import image_bench

image_bench.into_private_mounts()
image_bench.compare("pull", 2.0)
