// SPDX-License-Identifier: Apache-2.0
// Argument checks, the careful half: decides the cases that the inline half of checks.h leaves, and words the errors.
#include "api/checks.h"

#include <algorithm>
#include <string>

namespace tutti {
namespace {

constexpr size_t kMostBytes = static_cast<size_t>(PTRDIFF_MAX);

Status check_rank(const char* function, const char* argument, int rank, int nranks) {
  if (checks::is_rank(rank, nranks)) return {};
  return invalid_argument("{}: {} is {}: pass a rank of this communicator, 0 to {}", function, argument, rank,
                          nranks - 1);
}

// One buffer of a call: `blocks` times `count` elements.
struct Extent {
  const char* name;
  const void* begin;
  int blocks;
};

// Sizes of a call, checked, and the wording shared by its messages.
struct Shape {
  const char* function;
  const char* count_name;
  size_t count;
  size_t element;

  size_t bytes(const Extent& extent) const { return count * element * static_cast<size_t>(extent.blocks); }
  std::string bytes_text(const Extent& extent) const {
    const std::string blocks = extent.blocks == 1 ? "" : fmt::format("{} ranks * ", extent.blocks);
    return fmt::format("{}{} * {} bytes", blocks, count_name, element);
  }
};

Status check_count(const Shape& shape, int blocks) {
  const size_t most = kMostBytes / shape.element / static_cast<size_t>(blocks);
  if (shape.count <= most) return {};
  return invalid_argument("{}: {} is {}: {} exceed what a buffer can have, pass at most {}", shape.function,
                          shape.count_name, shape.count, shape.bytes_text({"", nullptr, blocks}), most);
}

Status check_buffer(const Shape& shape, const Extent& extent) {
  if (extent.begin != nullptr || shape.count == 0) return {};
  return invalid_argument("{}: {} is NULL but {} is {}: pass a buffer of {}", shape.function, extent.name,
                          shape.count_name, shape.count, shape.bytes_text(extent));
}

// `small` is allowed at `big` + in_place, and anywhere outside of `big`. `how` says the former in the user's words.
Status check_overlap(const Shape& shape, const Extent& small, const Extent& big, size_t in_place, const char* how) {
  const auto s = reinterpret_cast<uintptr_t>(small.begin), b = reinterpret_cast<uintptr_t>(big.begin);
  const size_t small_bytes = shape.bytes(small), big_bytes = shape.bytes(big);
  if (shape.count == 0 || s == b + in_place || (s - b >= big_bytes && b - s >= small_bytes)) return {};
  const uint64_t shared = s >= b ? std::min<uint64_t>(small_bytes, big_bytes - (s - b))
                                 : std::min<uint64_t>(big_bytes, small_bytes - (b - s));
  return invalid_argument("{}: send and recv overlap by {} bytes: pass {} (in place) or buffers that share no byte",
                          shape.function, shared, how);
}

Shape shape_of(const Call& c, const char* count_name) {
  return {c.function, count_name, c.count, checks::element_bytes(c.type)};
}

// send and recv of the same extent: AllReduce, AllToAll, and the roots of Reduce and Broadcast.
Status check_equal_buffers(const Call& c, int blocks) {
  const Shape shape = shape_of(c, "count");
  const Extent send{"send", c.send, blocks}, recv{"recv", c.recv, blocks};
  TUTTI_TRY(check_count(shape, blocks));
  TUTTI_TRY(check_buffer(shape, send));
  TUTTI_TRY(check_buffer(shape, recv));
  return check_overlap(shape, send, recv, 0, "recv == send");
}

Status check_one_buffer(const Call& c, const char* count_name, const Extent& extent, int blocks) {
  const Shape shape = shape_of(c, count_name);
  TUTTI_TRY(check_count(shape, blocks));
  return check_buffer(shape, extent);
}

// One block against all blocks: AllGather, ReduceScatter, and the roots of Gather and Scatter.
Status check_block_buffers(const Call& c, const char* count_name, bool gathers, const char* how) {
  const Shape shape = shape_of(c, count_name);
  const Extent send{"send", c.send, gathers ? 1 : c.nranks}, recv{"recv", c.recv, gathers ? c.nranks : 1};
  TUTTI_TRY(check_count(shape, c.nranks));
  TUTTI_TRY(check_buffer(shape, send));
  TUTTI_TRY(check_buffer(shape, recv));
  const size_t in_place = c.count * shape.element * static_cast<size_t>(c.rank);
  return check_overlap(shape, gathers ? send : recv, gathers ? recv : send, in_place, how);
}

}  // namespace

namespace checks {

Status check_type(const char* function, uint32_t type) {
  if (known_type(type)) return {};
  return invalid_argument("{}: type is {}: pass a tuttiDataType_t, 0 to {}", function, static_cast<int>(type),
                          TUTTI_NUM_TYPES - 1);
}

Status check_op(const char* function, uint32_t op) {
  if (plausible_op(op)) return {};
  return invalid_argument("{}: op is {}: pass a tuttiRedOp_t, 0 to {}, or a handle of tuttiRedOpCreatePreMulSum",
                          function, static_cast<int>(op), TUTTI_NUM_OPS - 1);
}

Status explain_all_reduce(const Call& c) {
  TUTTI_TRY(checks::check_type(c.function, c.type));
  TUTTI_TRY(checks::check_op(c.function, c.op));
  return check_equal_buffers(c, 1);
}

Status explain_reduce(const Call& c) {
  TUTTI_TRY(checks::check_type(c.function, c.type));
  TUTTI_TRY(checks::check_op(c.function, c.op));
  TUTTI_TRY(check_rank(c.function, "root", c.root, c.nranks));
  return c.rank == c.root ? check_equal_buffers(c, 1) : check_one_buffer(c, "count", {"send", c.send, 1}, 1);
}

Status explain_broadcast(const Call& c) {
  TUTTI_TRY(checks::check_type(c.function, c.type));
  TUTTI_TRY(check_rank(c.function, "root", c.root, c.nranks));
  return c.rank == c.root ? check_equal_buffers(c, 1) : check_one_buffer(c, "count", {"recv", c.recv, 1}, 1);
}

Status explain_all_gather(const Call& c) {
  TUTTI_TRY(checks::check_type(c.function, c.type));
  return check_block_buffers(c, "sendcount", true, "send == recv + rank * sendcount");
}

Status explain_reduce_scatter(const Call& c) {
  TUTTI_TRY(checks::check_type(c.function, c.type));
  TUTTI_TRY(checks::check_op(c.function, c.op));
  return check_block_buffers(c, "recvcount", false, "recv == send + rank * recvcount");
}

Status explain_all_to_all(const Call& c) {
  TUTTI_TRY(checks::check_type(c.function, c.type));
  return check_equal_buffers(c, c.nranks);
}

Status explain_gather(const Call& c) {
  TUTTI_TRY(checks::check_type(c.function, c.type));
  TUTTI_TRY(check_rank(c.function, "root", c.root, c.nranks));
  if (c.rank != c.root) return check_one_buffer(c, "sendcount", {"send", c.send, 1}, c.nranks);
  return check_block_buffers(c, "sendcount", true, "send == recv + root * sendcount");
}

Status explain_scatter(const Call& c) {
  TUTTI_TRY(checks::check_type(c.function, c.type));
  TUTTI_TRY(check_rank(c.function, "root", c.root, c.nranks));
  if (c.rank != c.root) return check_one_buffer(c, "recvcount", {"recv", c.recv, 1}, c.nranks);
  return check_block_buffers(c, "recvcount", false, "recv == send + root * recvcount");
}

Status explain_send(const Call& c) {
  TUTTI_TRY(checks::check_type(c.function, c.type));
  TUTTI_TRY(check_rank(c.function, "peer", c.root, c.nranks));
  return check_one_buffer(c, "count", {"send", c.send, 1}, 1);
}

Status explain_recv(const Call& c) {
  TUTTI_TRY(checks::check_type(c.function, c.type));
  TUTTI_TRY(check_rank(c.function, "peer", c.root, c.nranks));
  return check_one_buffer(c, "count", {"recv", c.recv, 1}, 1);
}

}  // namespace checks

Status check_user_operator(const char* function, uint32_t op, const uint32_t* made_for, uint32_t type) {
  if (made_for == nullptr)
    return invalid_argument(
        "{}: op is {}, which is no operator of this communicator: pass 0 to {}, or a handle that "
        "tuttiRedOpCreatePreMulSum made for it and that lives",
        function, static_cast<int>(op), TUTTI_NUM_OPS - 1);
  if (*made_for == type) return {};
  return invalid_argument("{}: op is a pre-multiplied sum made for type {} but type is {}: make one for this type",
                          function, static_cast<int>(*made_for), static_cast<int>(type));
}

Status check_not_null(const char* function, const char* argument, const void* pointer, const char* remedy) {
  if (pointer != nullptr) [[likely]]
    return {};
  return invalid_argument("{}: {} is NULL: pass {}", function, argument, remedy);
}

Status check_init(const char* function, const void* comm, int nranks, int rank) {
  TUTTI_TRY(check_not_null(function, "comm", comm, "the address of a tuttiComm_t"));
  if (nranks < 1) return invalid_argument("{}: nranks is {}: pass the number of ranks, at least 1", function, nranks);
  if (!checks::is_rank(rank, nranks))
    return invalid_argument("{}: rank is {}: with nranks {} pass 0 to {}", function, rank, nranks, nranks - 1);
  return {};
}

Status check_shrink(const char* function, const int* exclude, int count, int rank, int nranks, int flags) {
  if (count < 0) return invalid_argument("{}: excludeCount is {}: pass the length of excludeRanks", function, count);
  if (count > 0) TUTTI_TRY(check_not_null(function, "excludeRanks", exclude, "excludeCount ranks"));
  for (int i = 0; i < count; ++i) {
    if (!checks::is_rank(exclude[i], nranks))
      return invalid_argument("{}: excludeRanks[{}] is {}: pass ranks of this communicator, 0 to {}", function, i,
                              exclude[i], nranks - 1);
    if (exclude[i] == rank)
      return invalid_usage("{}: excludeRanks[{}] is {}, the calling rank: those that are left out do not call",
                           function, i, rank);
  }
  if (flags != TUTTI_SHRINK_DEFAULT && flags != TUTTI_SHRINK_ABORT)
    return invalid_argument("{}: shrinkFlags is {}: pass TUTTI_SHRINK_DEFAULT or TUTTI_SHRINK_ABORT", function, flags);
  return {};
}

Status check_config(const char* function, const tuttiConfig_t* config) {
  if (config == nullptr) return {};
  if (config->magic != TUTTI_CONFIG_MAGIC)
    return invalid_argument("{}: config->magic is {:#x}: start from TUTTI_CONFIG_INITIALIZER", function, config->magic);
  constexpr uint32_t kFirstVersion = 100;  // 0.1.0
  if (config->version < kFirstVersion || config->version / 10000 > TUTTI_MAJOR)
    return invalid_argument(
        "{}: config->version is {}: this library is {}; start from TUTTI_CONFIG_INITIALIZER, and build against a "
        "header "
        "of the library's major version",
        function, config->version, TUTTI_VERSION_CODE);
  // What headers of this version have had: the first fields, and those added since.
  constexpr size_t kSizes[] = {offsetof(tuttiConfig_t, algorithms), offsetof(tuttiConfig_t, nics),
                               sizeof(tuttiConfig_t)};
  const bool known = std::find(std::begin(kSizes), std::end(kSizes), config->size) != std::end(kSizes);
  const bool newer = config->version > TUTTI_VERSION_CODE && config->size > sizeof(tuttiConfig_t);
  if (!known && !newer)
    return invalid_argument("{}: config->size is {}: version {} has {} bytes; start from TUTTI_CONFIG_INITIALIZER",
                            function, config->size, config->version, sizeof(tuttiConfig_t));
  const auto flag = [](int value) { return value == 0 || value == 1 || value == TUTTI_UNDEFINED_INT; };
  if (!flag(config->blocking))
    return invalid_argument("{}: config->blocking is {}: pass 1, or 0 for a non-blocking communicator", function,
                            config->blocking);
  if (config->device < TUTTI_DEVICE_CPU && config->device != TUTTI_UNDEFINED_INT)
    return invalid_argument("{}: config->device is {}: pass a CUDA ordinal from 0 on, or TUTTI_DEVICE_CPU", function,
                            config->device);
  const auto channels = [](int value) { return value >= 1 || value == TUTTI_UNDEFINED_INT; };
  if (!channels(config->minChannels))
    return invalid_argument("{}: config->minChannels is {}: pass 1 or more, or TUTTI_UNDEFINED_INT", function,
                            config->minChannels);
  if (!channels(config->maxChannels))
    return invalid_argument("{}: config->maxChannels is {}: pass 1 or more, or TUTTI_UNDEFINED_INT", function,
                            config->maxChannels);
  if (config->maxChannels != TUTTI_UNDEFINED_INT && config->minChannels > config->maxChannels)
    return invalid_argument("{}: config->minChannels is {} but config->maxChannels is {}: pass min <= max", function,
                            config->minChannels, config->maxChannels);
  if (!flag(config->splitShare))
    return invalid_argument("{}: config->splitShare is {}: pass 0, 1 or TUTTI_UNDEFINED_INT", function,
                            config->splitShare);
  return {};
}

Status check_pre_mul_sum(const char* function, const void* op, const void* scalar, uint32_t type, uint32_t residence) {
  TUTTI_TRY(check_not_null(function, "op", op, "the address of a tuttiRedOp_t"));
  TUTTI_TRY(check_not_null(function, "scalar", scalar, "the address of one element of type"));
  TUTTI_TRY(checks::check_type(function, type));
  if (residence == TUTTI_SCALAR_DEVICE || residence == TUTTI_SCALAR_HOST_IMMEDIATE) return {};
  return invalid_argument("{}: residence is {}: pass TUTTI_SCALAR_DEVICE (0) or TUTTI_SCALAR_HOST_IMMEDIATE (1)",
                          function, static_cast<int>(residence));
}

Status check_memory(const char* function, const void* ptr, size_t bytes) {
  TUTTI_TRY(check_not_null(function, "ptr", ptr, "the start of the memory"));
  if (bytes == 0) return invalid_argument("{}: bytes is 0: pass the length of the memory", function);
  if (bytes > kMostBytes || bytes > UINTPTR_MAX - reinterpret_cast<uintptr_t>(ptr))
    return invalid_argument("{}: bytes is {}: ptr + bytes leaves the address space, pass the length of the memory",
                            function, bytes);
  return {};
}

}  // namespace tutti
