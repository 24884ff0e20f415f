"""Workloads people submit with ``ray job submit``. They import Ray and libraries, nothing of the fabric."""
