// SPDX-License-Identifier: Apache-2.0
// All kernels of one protocol, as a list: KERNEL(proto, type, T, op, Op) for each reduction, COPY(proto) for the
// copies. `proto` is the name of an enumerator and of kKernelProtoNames in small letters; see work.h for the kernels'
// names.
#pragma once

#define TUTTI_KERNEL_OPS(KERNEL, Proto, proto, type, T) \
  KERNEL(Proto, proto, type, T, sum, Sum)               \
  KERNEL(Proto, proto, type, T, prod, Prod)             \
  KERNEL(Proto, proto, type, T, max, Max)               \
  KERNEL(Proto, proto, type, T, min, Min)

#define TUTTI_KERNELS(KERNEL, COPY, Proto, proto)                 \
  COPY(Proto, proto)                                              \
  TUTTI_KERNEL_OPS(KERNEL, Proto, proto, int8, int8_t)            \
  TUTTI_KERNEL_OPS(KERNEL, Proto, proto, uint8, uint8_t)          \
  TUTTI_KERNEL_OPS(KERNEL, Proto, proto, int32, int32_t)          \
  TUTTI_KERNEL_OPS(KERNEL, Proto, proto, uint32, uint32_t)        \
  TUTTI_KERNEL_OPS(KERNEL, Proto, proto, int64, int64_t)          \
  TUTTI_KERNEL_OPS(KERNEL, Proto, proto, uint64, uint64_t)        \
  TUTTI_KERNEL_OPS(KERNEL, Proto, proto, float16, Float16)        \
  TUTTI_KERNEL_OPS(KERNEL, Proto, proto, float32, float)          \
  TUTTI_KERNEL_OPS(KERNEL, Proto, proto, float64, double)         \
  TUTTI_KERNEL_OPS(KERNEL, Proto, proto, bfloat16, Bfloat16)      \
  TUTTI_KERNEL_OPS(KERNEL, Proto, proto, float8_e4m3, Float8E4m3) \
  TUTTI_KERNEL_OPS(KERNEL, Proto, proto, float8_e5m2, Float8E5m2)
