// SPDX-License-Identifier: Apache-2.0
// See rdma_rail.h.
#include "transports/rdma/rdma_rail.h"

#include <sodium.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "proto/slots.h"

namespace tutti {
namespace {

// A receive is used up by each message and each credit of the peer that has not been polled yet. Messages: no more than
// it has credit for. Credits: each gives back at least one message of ours, of which no more are out. Landings: each
// speaks of a position that no other spoke of, at most kMostInFlight ahead of a message of ours that is itself at most
// kMostInFlight ahead of the last credit that has been polled.
constexpr int kReceiveWork = 4 * SimpleMemory::kMostInFlight;
// Of one write; every device takes that much (a port's largest message is 8 MiB or more).
constexpr uint64_t kMostWrite = 4 << 20;
constexpr uint64_t kMostWrites = 64;  // of one message's payload: slots end at 256 MiB
// A device that cannot take as much inline as we would like is asked for less.
constexpr uint32_t kInline[] = {256, 64, 0};
// The queue pair's own retries when a receive is missing, which cannot be (kReceiveWork): for ever, at 0.64 ms.
constexpr uint8_t kNotReadyRetries = 7, kNotReadyTimer = 12;
constexpr uint8_t kHops = 255;  // of routed packets: RoCE v2's IP time to live

ibv_mtu mtu_code(uint32_t bytes) {
  for (const ibv_mtu code : {IBV_MTU_4096, IBV_MTU_2048, IBV_MTU_1024, IBV_MTU_512})
    if (bytes >= 128u << code) return code;
  return IBV_MTU_256;
}

}  // namespace

RdmaRail::RdmaRail(Place place) : place_(std::move(place)) {}

RdmaRail::~RdmaRail() {
  queue_pair_.reset();
  if (completions_ != nullptr) nic().give_back_completions(completions_, send_work() + kReceiveWork);
}

// Two for each message, one more for what a large payload is cut into, a credit, and a word of landings.
int RdmaRail::send_work() const {
  return static_cast<int>(2 * SimpleMemory::kMostInFlight + place_.capacity / kMostWrite + 3);
}

uint64_t RdmaRail::ticket(RdmaTicket::Kind kind, uint8_t slot) const {
  return RdmaTicket{place_.connection, place_.number, static_cast<uint8_t>(generation_), kind, slot}.encode();
}

Status RdmaRail::failure(std::string_view call, int number) const {
  errno = number;
  return errno_status(call, text());
}

Status RdmaRail::make_queue_pair() {
  if (completions_ == nullptr) {
    TUTTI_ASSIGN_OR_RETURN(completions_, nic().reserve_completions(send_work() + kReceiveWork));
  }
  queue_pair_.reset();
  for (const uint32_t bytes : kInline) {
    ibv_qp_init_attr wanted{};
    wanted.send_cq = wanted.recv_cq = completions_;
    wanted.qp_type = IBV_QPT_RC;
    wanted.cap.max_send_wr = static_cast<uint32_t>(send_work());
    wanted.cap.max_recv_wr = kReceiveWork;
    wanted.cap.max_send_sge = wanted.cap.max_recv_sge = 1;
    wanted.cap.max_inline_data = bytes;
    queue_pair_ = {nic().api().create_qp(nic().domain(), &wanted), {&nic().api()}};
    most_inline_ = wanted.cap.max_inline_data;
    if (queue_pair_ != nullptr) return {};
  }
  return failure("ibv_create_qp", errno);
}

Status RdmaRail::initialise() {
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_INIT;
  attributes.port_num = static_cast<uint8_t>(port().number);
  attributes.qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
  const int failed = nic().api().modify_qp(queue_pair_.get(), &attributes,
                                           IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
  if (failed != 0) return failure("ibv_modify_qp to INIT", failed);
  while (receives_ < kReceiveWork) TUTTI_TRY(post_receive());
  return {};
}

Result<RailOffer> RdmaRail::offer() {
  now_ = place_.devices->look(place_.port);
  if (!now_.active) return remote_error("{}: {} is not active; is its cable in place?", text(), port().text());
  if (now_.gid_index < 0)
    return remote_error("{}: {} has lost its address {} ({})", text(), port().text(), port().gid.text(),
                        verbs::name(port().gid.type));
  ++generation_;
  credit_out_ = false;
  Status made = make_queue_pair();
  if (made.ok()) made = initialise();
  if (!made.ok()) {  // as if it had not been tried: the peer has heard nothing
    queue_pair_.reset();
    receives_ = 0;
    --generation_;
    return made;
  }
  constexpr uint32_t kSequenceMask = 0xffffff;
  packet_sequence_ = randombytes_random() & kSequenceMask;
  phase_ = Phase::Offered;
  return RailOffer{.generation = generation_,
                   .queue_pair = queue_pair_->qp_num,
                   .packet_sequence = packet_sequence_,
                   .lid = now_.lid,
                   .mtu = static_cast<uint32_t>(now_.mtu),
                   .gid = port().gid.bytes};
}

Status RdmaRail::connect(const RailOffer& theirs) {
  const RdmaSettings& settings = *place_.settings;
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_RTR;
  attributes.path_mtu = mtu_code(std::min(theirs.mtu, static_cast<uint32_t>(now_.mtu)));
  attributes.dest_qp_num = theirs.queue_pair;
  attributes.rq_psn = theirs.packet_sequence;
  attributes.max_dest_rd_atomic = 1;
  attributes.min_rnr_timer = kNotReadyTimer;
  ibv_ah_attr& way = attributes.ah_attr;
  way.port_num = static_cast<uint8_t>(port().number);
  way.sl = static_cast<uint8_t>(settings.service_level);
  if (port().layer == verbs::LinkLayer::Ethernet) {
    way.is_global = 1;
    std::memcpy(way.grh.dgid.raw, theirs.gid.data(), theirs.gid.size());
    way.grh.sgid_index = static_cast<uint8_t>(now_.gid_index);
    way.grh.hop_limit = kHops;
    way.grh.traffic_class = static_cast<uint8_t>(settings.traffic_class);
  } else {
    way.dlid = static_cast<uint16_t>(theirs.lid);  // ports of one subnet (pair_ports)
  }
  int failed = nic().api().modify_qp(queue_pair_.get(), &attributes,
                                     IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                                         IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
  if (failed != 0) return failure("ibv_modify_qp to RTR", failed);
  attributes = {};
  attributes.qp_state = IBV_QPS_RTS;
  attributes.timeout = static_cast<uint8_t>(settings.timeout);
  attributes.retry_cnt = static_cast<uint8_t>(settings.retry_count);
  attributes.rnr_retry = kNotReadyRetries;
  attributes.sq_psn = packet_sequence_;
  attributes.max_rd_atomic = 1;
  failed = nic().api().modify_qp(
      queue_pair_.get(), &attributes,
      IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
  if (failed != 0) return failure("ibv_modify_qp to RTS", failed);
  phase_ = Phase::Connected;
  return {};
}

void RdmaRail::close() {
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_ERR;
  // If even that fails the device is gone, and with it whatever could still write.
  (void)nic().api().modify_qp(queue_pair_.get(), &attributes, IBV_QP_STATE);
  phase_ = Phase::Closing;
}

Status RdmaRail::post_receive() {
  ibv_recv_wr work{};
  work.wr_id = ticket(RdmaTicket::Kind::Receive, 0);
  ibv_recv_wr* bad = nullptr;
  if (const int failed = ibv_post_recv(queue_pair_.get(), &work, &bad); failed != 0)
    return failure("ibv_post_recv", failed);
  ++receives_;
  return {};
}

Status RdmaRail::receive_done(uint32_t generation) {
  --receives_;
  const bool current = generation == (generation_ & 0xff);
  return current && alive() ? post_receive() : Status();
}

Status RdmaRail::post_send(ibv_send_wr& first) {
  ibv_send_wr* bad = nullptr;
  if (const int failed = ibv_post_send(queue_pair_.get(), &first, &bad); failed != 0)
    return failure("ibv_post_send", failed);
  return {};
}

Status RdmaRail::post(const RailMessage& message) {
  std::array<ibv_send_wr, kMostWrites + 1> works;
  std::array<ibv_sge, kMostWrites + 1> parts;
  size_t count = 0;
  const auto add = [&](const std::byte* from, uint64_t bytes, uint32_t key, uint64_t to,
                       uint32_t remote_key) -> ibv_send_wr& {
    parts[count] = {reinterpret_cast<uint64_t>(from), static_cast<uint32_t>(bytes), key};
    ibv_send_wr& work = works[count];
    std::memset(&work, 0, sizeof work);
    work.sg_list = &parts[count];
    work.num_sge = 1;
    work.wr.rdma.remote_addr = to;
    work.wr.rdma.rkey = remote_key;
    if (count > 0) works[count - 1].next = &work;
    ++count;
    return work;
  };
  for (uint64_t at = 0; at < message.payload_bytes; at += kMostWrite) {
    ibv_send_wr& work = add(message.payload + at, std::min(kMostWrite, message.payload_bytes - at), message.payload_key,
                            message.remote_payload + at, message.remote_payload_key);
    work.wr_id = ticket(RdmaTicket::Kind::Payload, message.slot);
    work.opcode = IBV_WR_RDMA_WRITE;
  }
  ibv_send_wr& work =
      add(message.letter, message.letter_bytes, message.letter_key, message.remote_letter, message.remote_key);
  work.wr_id = ticket(RdmaTicket::Kind::Letter, message.slot);
  work.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
  work.imm_data = __builtin_bswap32(message.immediate);
  work.send_flags = IBV_SEND_SIGNALED;
  if (message.letter_bytes <= most_inline_) work.send_flags |= IBV_SEND_INLINE;
  return post_send(works[0]);
}

Status RdmaRail::post_credit(uint32_t immediate) {
  ibv_send_wr work{};
  work.wr_id = ticket(RdmaTicket::Kind::Credit, 0);
  work.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;  // of no bytes: it needs no key
  work.imm_data = __builtin_bswap32(immediate);
  work.send_flags = IBV_SEND_SIGNALED;
  TUTTI_TRY(post_send(work));
  credit_out_ = true;
  return {};
}

Status RdmaRail::post_landings(const TablePart& part, uint32_t immediate) {
  ibv_sge from{reinterpret_cast<uint64_t>(part.from), part.bytes, part.key};
  ibv_send_wr work{};
  work.wr_id = ticket(RdmaTicket::Kind::Landings, 0);
  work.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
  work.imm_data = __builtin_bswap32(immediate);
  work.send_flags = IBV_SEND_SIGNALED;
  if (part.bytes <= most_inline_) work.send_flags |= IBV_SEND_INLINE;
  work.sg_list = &from;
  work.num_sge = 1;
  work.wr.rdma.remote_addr = part.remote;
  work.wr.rdma.rkey = part.remote_key;
  return post_send(work);
}

}  // namespace tutti
