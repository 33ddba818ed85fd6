// SPDX-License-Identifier: Apache-2.0
// The collectives: check the arguments, build a Request, submit it.
#include <algorithm>

#include "api/checks.h"
#include "api/entry.h"
#include "api/handles.h"
#include "api/scalar.h"

using namespace tutti;

namespace {

// Fills in the operator; avg and pre-multiplied sums are Sum with a scale.
Status set_operator(const char* function, const Communicator& comm, tuttiRedOp_t op, Request& request) {
  static_assert(TUTTI_SUM == static_cast<int>(ReduceOp::Sum) && TUTTI_PROD == static_cast<int>(ReduceOp::Prod) &&
                TUTTI_MAX == static_cast<int>(ReduceOp::Max) && TUTTI_MIN == static_cast<int>(ReduceOp::Min));
  if (op < TUTTI_AVG) [[likely]] {
    request.op = static_cast<ReduceOp>(op);
  } else if (op == TUTTI_AVG) {
    request.average = true;
  } else {
    const Communicator::UserOperator* found = comm.find_operator(static_cast<int>(op) - TUTTI_NUM_OPS);
    const auto made_for = found != nullptr ? static_cast<uint32_t>(found->type) : 0;
    TUTTI_TRY(
        check_user_operator(function, op, found != nullptr ? &made_for : nullptr, static_cast<uint32_t>(request.type)));
    request.prescaled = true;
    request.scale = found->scale;
    request.scale_at = found->scale_at;
  }
  return {};
}

// On a CUDA device a stream is the user's, and null the device's own.
Status submit_on_cuda(const char* function, tuttiComm_t comm, tuttiStream_t stream, Request& request) {
  if (is_stream_handle(stream)) {
    return invalid_argument(
        "{}: stream was made by tuttiStreamCreate, which are for communicators on the CPU: pass a cudaStream_t, or "
        "NULL for the default stream",
        function);
  }
  return submit_cuda(comm->comm, stream, comm->worker, std::move(request));
}

Status submit_on(const char* function, tuttiComm_t comm, tuttiStream_t stream, Request& request) {
  if (comm->comm->cuda() != nullptr) [[unlikely]]
    return submit_on_cuda(function, comm, stream, request);
  if (stream == nullptr) [[likely]] {
    // The fast path of a lone blocking call: the request is not moved into a group or a queue.
    if (!in_group() && !request.point_to_point()) [[likely]]
      return comm->worker == nullptr ? comm->comm->run(request) : submit(comm->comm, comm->worker, std::move(request));
    return submit(comm->comm, comm->worker, std::move(request));
  }
  TUTTI_ASSIGN_OR_RETURN(const std::shared_ptr<Stream> found, find_stream(function, stream));
  return submit(comm->comm, found, std::move(request));
}

// What the collectives with one count have in common. `check` is the collective's argument check.
struct Uniform {
  const char* function;
  Coll coll;
  const void* send;
  void* recv;
  size_t count;
  tuttiDataType_t type;
  tuttiRedOp_t op;
  int root;
};
// Posts a short call of a known kind. Null: it has not been made.
inline Communicator::Known* post_straight(Communicator& comm, const Uniform& u, Advance& first) {
  if (u.op > TUTTI_AVG) return nullptr;  // a factor comes with an operator of the user's
  const bool average = u.op == TUTTI_AVG;
  const auto type = static_cast<DataType>(u.type);
  const CallKind kind{.coll = u.coll,
                      .type = type,
                      .op = average ? ReduceOp::Sum : static_cast<ReduceOp>(u.op),
                      .average = average,
                      .root = u.root};
  return comm.begin_straight(kind.word(), u.count * element_size(type), u.send, u.recv, first);
}
template <Status (*check)(const Call&)>
tuttiResult_t run(const Uniform& u, tuttiComm_t comm, tuttiStream_t stream) {
  return entry(u.function, [&]() -> Status {
    const CommCall inside(comm);
    TUTTI_TRY(check_comm(u.function, comm));
    const Call call{
        u.function, u.send,     u.recv,    u.count, static_cast<uint32_t>(u.type), static_cast<uint32_t>(u.op),
        u.root,     comm->size, comm->rank};
    TUTTI_TRY(check(call));
    Advance first = Advance::Blocked;
    // The calls of a non-blocking communicator are its worker's.
    const bool alone = stream == nullptr && comm->worker == nullptr && !in_group();
    if (Communicator::Known* const posted = alone ? post_straight(*comm->comm, u, first) : nullptr) [[likely]]
      return comm->comm->run_straight(*posted, first);
    Request request;
    request.coll = u.coll;
    request.input = u.send;
    request.output = u.recv;
    request.count = u.count;
    request.type = static_cast<DataType>(u.type);
    request.root = u.root;
    if (reduces(u.coll)) TUTTI_TRY(set_operator(u.function, *comm->comm, u.op, request));
    return submit_on(u.function, comm, stream, request);
  });
}

// What a send and a receive have in common.
struct Message {
  const char* function;
  bool is_send;
  void* buffer;  // a send's is only read
  size_t count;
  tuttiDataType_t type;
  int peer;
};
template <Status (*check)(const Call&)>
tuttiResult_t message(const Message& m, tuttiComm_t comm, tuttiStream_t stream) {
  return entry(m.function, [&]() -> Status {
    const CommCall inside(comm);
    TUTTI_TRY(check_comm(m.function, comm));
    TUTTI_TRY(check({m.function, m.is_send ? m.buffer : nullptr, m.is_send ? nullptr : m.buffer, m.count,
                     static_cast<uint32_t>(m.type), TUTTI_SUM, m.peer, comm->size, comm->rank}));
    const CallKind kind{
        .coll = Coll::SendRecv, .type = static_cast<DataType>(m.type), .is_send = m.is_send, .root = m.peer};
    Status status;
    // The calls of a non-blocking communicator are its worker's.
    if (stream == nullptr && comm->worker == nullptr &&
        submit_short_message(comm->comm, kind, m.count * element_size(kind.type), m.buffer, status)) [[likely]]
      return status;
    Request request;
    request.coll = Coll::SendRecv;
    if (m.is_send) {
      request.input = m.buffer;
    } else {
      request.output = m.buffer;
    }
    request.count = m.count;
    request.type = kind.type;
    request.root = m.peer;
    request.is_send = m.is_send;
    return submit_on(m.function, comm, stream, request);
  });
}

// Bytes of a table of counts; without displacements the blocks lie one behind the other.
void fill(std::vector<uint64_t>& offsets, std::vector<uint64_t>& lengths, int n, const size_t* counts,
          const size_t* displacements, size_t element) {
  offsets.resize(static_cast<size_t>(n));
  lengths.resize(static_cast<size_t>(n));
  uint64_t end = 0;
  for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
    lengths[i] = counts[i] * element;
    offsets[i] = displacements != nullptr ? displacements[i] * element : end;
    end += lengths[i];
  }
}
// What the V forms have in common; each adds its tables.
CallV call_with_tables(const char* function, tuttiComm_t comm, const void* send, const void* recv,
                       tuttiDataType_t type) {
  CallV call;
  call.function = function;
  call.send = send;
  call.recv = recv;
  call.type = static_cast<uint32_t>(type);
  call.nranks = comm->size;
  call.rank = comm->rank;
  return call;
}
Request request_with_tables(Coll coll, const void* send, void* recv, tuttiDataType_t type) {
  Request request;
  request.coll = coll;
  request.input = send;
  request.output = recv;
  request.type = static_cast<DataType>(type);
  request.tables = std::make_unique<BlockTables>();
  return request;
}
// The planner's size for blocks that all ranks know: the longest, so that all plan alike.
uint64_t longest(int n, const size_t* counts) { return *std::max_element(counts, counts + n); }

}  // namespace

extern "C" {

tuttiResult_t tuttiAllReduce(const void* send, void* recv, size_t count, tuttiDataType_t type, tuttiRedOp_t op,
                             tuttiComm_t comm, tuttiStream_t stream) {
  return run<check_all_reduce>({__func__, Coll::AllReduce, send, recv, count, type, op, 0}, comm, stream);
}

tuttiResult_t tuttiReduce(const void* send, void* recv, size_t count, tuttiDataType_t type, tuttiRedOp_t op, int root,
                          tuttiComm_t comm, tuttiStream_t stream) {
  return run<check_reduce>({__func__, Coll::Reduce, send, recv, count, type, op, root}, comm, stream);
}

tuttiResult_t tuttiBroadcast(const void* send, void* recv, size_t count, tuttiDataType_t type, int root,
                             tuttiComm_t comm, tuttiStream_t stream) {
  return run<check_broadcast>({__func__, Coll::Broadcast, send, recv, count, type, TUTTI_SUM, root}, comm, stream);
}

tuttiResult_t tuttiAllGather(const void* send, void* recv, size_t sendcount, tuttiDataType_t type, tuttiComm_t comm,
                             tuttiStream_t stream) {
  return run<check_all_gather>({__func__, Coll::AllGather, send, recv, sendcount, type, TUTTI_SUM, 0}, comm, stream);
}

tuttiResult_t tuttiReduceScatter(const void* send, void* recv, size_t recvcount, tuttiDataType_t type, tuttiRedOp_t op,
                                 tuttiComm_t comm, tuttiStream_t stream) {
  return run<check_reduce_scatter>({__func__, Coll::ReduceScatter, send, recv, recvcount, type, op, 0}, comm, stream);
}

tuttiResult_t tuttiAllToAll(const void* send, void* recv, size_t count, tuttiDataType_t type, tuttiComm_t comm,
                            tuttiStream_t stream) {
  return run<check_all_to_all>({__func__, Coll::AllToAll, send, recv, count, type, TUTTI_SUM, 0}, comm, stream);
}

tuttiResult_t tuttiGather(const void* send, void* recv, size_t sendcount, tuttiDataType_t type, int root,
                          tuttiComm_t comm, tuttiStream_t stream) {
  return run<check_gather>({__func__, Coll::Gather, send, recv, sendcount, type, TUTTI_SUM, root}, comm, stream);
}

tuttiResult_t tuttiScatter(const void* send, void* recv, size_t recvcount, tuttiDataType_t type, int root,
                           tuttiComm_t comm, tuttiStream_t stream) {
  return run<check_scatter>({__func__, Coll::Scatter, send, recv, recvcount, type, TUTTI_SUM, root}, comm, stream);
}

tuttiResult_t tuttiSend(const void* send, size_t count, tuttiDataType_t type, int peer, tuttiComm_t comm,
                        tuttiStream_t stream) {
  return message<check_send>({__func__, true, const_cast<void*>(send), count, type, peer}, comm, stream);
}

tuttiResult_t tuttiRecv(void* recv, size_t count, tuttiDataType_t type, int peer, tuttiComm_t comm,
                        tuttiStream_t stream) {
  return message<check_recv>({__func__, false, recv, count, type, peer}, comm, stream);
}

tuttiResult_t tuttiBarrier(tuttiComm_t comm, tuttiStream_t stream) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    const CommCall inside(comm);
    TUTTI_TRY(check_comm(function, comm));
    // An AllReduce of one word, in place in memory of the communicator: nobody has it before everybody gave theirs.
    Request request;
    request.coll = Coll::AllReduce;
    request.input = request.output = comm->comm->barrier_word();
    request.count = 1;
    request.type = DataType::Uint64;
    request.op = ReduceOp::Max;
    return submit_on(function, comm, stream, request);
  });
}

tuttiResult_t tuttiAllGatherV(const void* send, size_t sendcount, void* recv, const size_t* recvcounts,
                              const size_t* displs, tuttiDataType_t type, tuttiComm_t comm, tuttiStream_t stream) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    const CommCall inside(comm);
    TUTTI_TRY(check_comm(function, comm));
    CallV call = call_with_tables(function, comm, send, recv, type);
    call.sendcount = sendcount;
    call.recvcounts = recvcounts;
    call.rdispls = displs;
    TUTTI_TRY(check_all_gather_v(call));
    Request request = request_with_tables(Coll::AllGather, send, recv, type);
    request.count = longest(comm->size, recvcounts);
    fill(request.tables->out_offsets, request.tables->out_lengths, comm->size, recvcounts, displs,
         element_size(request.type));
    return submit_on(function, comm, stream, request);
  });
}

tuttiResult_t tuttiReduceScatterV(const void* send, void* recv, const size_t* recvcounts, tuttiDataType_t type,
                                  tuttiRedOp_t op, tuttiComm_t comm, tuttiStream_t stream) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    const CommCall inside(comm);
    TUTTI_TRY(check_comm(function, comm));
    CallV call = call_with_tables(function, comm, send, recv, type);
    call.recvcounts = recvcounts;
    call.op = static_cast<uint32_t>(op);
    TUTTI_TRY(check_reduce_scatter_v(call));
    Request request = request_with_tables(Coll::ReduceScatter, send, recv, type);
    request.count = longest(comm->size, recvcounts);
    TUTTI_TRY(set_operator(function, *comm->comm, op, request));
    fill(request.tables->in_offsets, request.tables->in_lengths, comm->size, recvcounts, nullptr,
         element_size(request.type));
    return submit_on(function, comm, stream, request);
  });
}

tuttiResult_t tuttiAllToAllV(const void* send, const size_t* sendcounts, const size_t* sdispls, void* recv,
                             const size_t* recvcounts, const size_t* rdispls, tuttiDataType_t type, tuttiComm_t comm,
                             tuttiStream_t stream) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    const CommCall inside(comm);
    TUTTI_TRY(check_comm(function, comm));
    CallV call = call_with_tables(function, comm, send, recv, type);
    call.sendcounts = sendcounts;
    call.sdispls = sdispls;
    call.recvcounts = recvcounts;
    call.rdispls = rdispls;
    TUTTI_TRY(check_all_to_all_v(call));
    Request request = request_with_tables(Coll::AllToAll, send, recv, type);
    request.count = 0;  // no rank knows all sizes: planned from n and type alone
    const size_t element = element_size(request.type);
    fill(request.tables->in_offsets, request.tables->in_lengths, comm->size, sendcounts, sdispls, element);
    fill(request.tables->out_offsets, request.tables->out_lengths, comm->size, recvcounts, rdispls, element);
    return submit_on(function, comm, stream, request);
  });
}

tuttiResult_t tuttiRedOpCreatePreMulSum(tuttiRedOp_t* op, const void* scalar, tuttiDataType_t type,
                                        tuttiScalarResidence_t residence, tuttiComm_t comm) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    const CommCall inside(comm);
    TUTTI_TRY(check_comm(function, comm));
    TUTTI_TRY(check_pre_mul_sum(function, op, scalar, static_cast<uint32_t>(type), static_cast<uint32_t>(residence)));
    Communicator::UserOperator made{.live = true, .type = static_cast<DataType>(type)};
    if (comm->comm->cuda() != nullptr && residence == TUTTI_SCALAR_DEVICE) {
      made.scale_at = scalar;  // kernels read it when they run
    } else {
      made.scale = read_scale(made.type, scalar);
    }
    *op = static_cast<tuttiRedOp_t>(TUTTI_NUM_OPS + comm->comm->add_operator(made));
    return {};
  });
}

tuttiResult_t tuttiRedOpDestroy(tuttiRedOp_t op, tuttiComm_t comm) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    const CommCall inside(comm);
    TUTTI_TRY(check_comm(function, comm));
    if (op < TUTTI_NUM_OPS || !comm->comm->remove_operator(static_cast<int>(op) - TUTTI_NUM_OPS)) {
      return invalid_argument(
          "{}: op {} is not a living operator of this communicator: pass one made by "
          "tuttiRedOpCreatePreMulSum, once",
          function, static_cast<int>(op));
    }
    return {};
  });
}

tuttiResult_t tuttiGroupStart(void) {
  return entry(__func__, []() -> Status {
    group_start();
    return {};
  });
}

tuttiResult_t tuttiGroupEnd(void) {
  return entry(__func__, [] { return group_end(); });
}

tuttiResult_t tuttiGroupSimulateEnd(double* microseconds) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    Result<double> time = group_simulate_end();
    TUTTI_TRY(check_not_null(function, "microseconds", microseconds, "the address of a double"));
    if (time.ok()) *microseconds = *time;
    return time.status();
  });
}

}  // extern "C"
