// SPDX-License-Identifier: Apache-2.0
// A look-alike of libibverbs whose devices carry RDMA writes for real, between queue pairs of one process or of several
// processes of a machine; no kernel support, nothing left behind.
//
//   queue pair A                                           queue pair B
//   post_send -> [send queue] == stream socket == NIC thread -> memory of B (keys, bounds, rights checked)
//   completion <------------- acknowledgements ------------'-> completion, where the write has an immediate
//
// A queue pair listens at an abstract Unix address that is its number; who is connected to it has a stream to there for
// its own writes. Each context has a thread, which is the NIC: it works whether or not the program is inside the
// library, as hardware does (and who polls for completions helps it). What is unlike hardware: only RC, only RDMA
// writes, one process per device instance.
//
// Memory of the fake CUDA driver's GPUs, which it knows by the name of its object, is mapped once more for the NIC: by
// the descriptor that stands for a DMA-buf, or by the address, as nvidia-peermem lets a driver do. A device in the list
// FAKE_RDMA_NO_DMABUF takes no DMA-buf, one in FAKE_RDMA_PEERMEM takes addresses ("all": each does).
//
// FAKE_RDMA_DEVICES lists the devices, NAME[@ib][/PORTS]: "fake0,fake1,fake2,fake3" unless set. Device d, port p has
// the address 10.99.d.p (RoCE v2, at index 3; other entries before it), or as an InfiniBand port a local id.
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "verbs/verbs.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using Clock = std::chrono::steady_clock;
constexpr int kGids = 8;

struct FakeGid {
  ibv_gid gid{};
  ibv_gid_type type = IBV_GID_TYPE_ROCE_V2;
};
struct FakePort {
  bool up = true;       // carries
  bool active = true;   // what the driver says
  FakeGid gids[kGids];  // all zeros: empty
};
struct FakeDevice {
  ibv_device device{};  // first: both have one address
  std::string name;
  bool infiniband = false;
  std::atomic<bool> dma_buf{true}, peer_memory{false};  // takes memory of GPUs, by descriptor or by address
  std::vector<FakePort> ports;
};

struct Context;
// What all contexts of the process share. Locked before a context's own lock, never after.
struct Machine {
  std::mutex lock;
  std::vector<std::unique_ptr<FakeDevice>> devices;
  std::set<Context*> contexts;
  int refuse_memory = 0;
  std::atomic<int> live{0};
};

FakeGid gid_of(std::initializer_list<uint8_t> bytes, ibv_gid_type type) {
  FakeGid made{{}, type};
  std::copy(bytes.begin(), bytes.end(), made.gid.raw);
  return made;
}

bool listed(const char* variable, const std::string& name) {
  const char* const text = std::getenv(variable);
  std::istringstream list(text != nullptr ? text : "");
  for (std::string one; std::getline(list, one, ',');)
    if (one == name || one == "all") return true;
  return false;
}

std::unique_ptr<FakeDevice> make_device(std::string text, uint8_t number) {
  auto made = std::make_unique<FakeDevice>();
  int ports = 1;
  if (const size_t slash = text.find('/'); slash != std::string::npos) {
    ports = std::atoi(text.c_str() + slash + 1);
    text.resize(slash);
  }
  if (const size_t at = text.find("@ib"); at != std::string::npos) {
    made->infiniband = true;
    text.resize(at);
  }
  made->name = text;
  made->dma_buf = !listed("FAKE_RDMA_NO_DMABUF", text);
  made->peer_memory = listed("FAKE_RDMA_PEERMEM", text);
  for (uint8_t port = 1; port <= ports; ++port) {
    FakePort one;
    if (made->infiniband) {
      one.gids[0] = gid_of({0xfe, 0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, number, port}, IBV_GID_TYPE_IB);
    } else {
      one.gids[0] = gid_of({0xfe, 0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, number, port}, IBV_GID_TYPE_ROCE_V1);
      one.gids[1] = gid_of({0xfe, 0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, number, port}, IBV_GID_TYPE_ROCE_V2);
      one.gids[2] = gid_of({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 99, number, port}, IBV_GID_TYPE_ROCE_V1);
      one.gids[3] = gid_of({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 99, number, port}, IBV_GID_TYPE_ROCE_V2);
    }
    made->ports.push_back(one);
  }
  return made;
}

Machine& machine() {
  static Machine& made = *[] {
    auto* fresh = new Machine;
    const char* set = std::getenv("FAKE_RDMA_DEVICES");
    std::string list = set != nullptr ? set : "fake0,fake1,fake2,fake3";
    for (uint8_t number = 0; !list.empty(); ++number) {
      const size_t comma = list.find(',');
      fresh->devices.push_back(make_device(list.substr(0, comma), number));
      list = comma == std::string::npos ? "" : list.substr(comma + 1);
    }
    return fresh;
  }();
  return made;
}

// Counts itself, for live_objects().
struct Counted {
  Counted() { ++machine().live; }
  Counted(const Counted&) = delete;
  ~Counted() { --machine().live; }
};

struct Fd {
  int fd = -1;
  explicit Fd(int fd = -1) : fd(fd) {}
  Fd(Fd&& other) noexcept : fd(std::exchange(other.fd, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd, other.fd);
    return *this;
  }
  ~Fd() { reset(); }
  void reset() {
    if (fd >= 0) ::close(fd);
    fd = -1;
  }
  explicit operator bool() const { return fd >= 0; }
};

// On the wire.
struct Packet {
  uint64_t remote_address;
  uint64_t bytes;
  uint32_t key;
  uint32_t immediate;
  uint32_t has_immediate;
  uint32_t from_queue_pair;
  uint8_t to_gid[16];
};
struct Answer {
  uint32_t status;  // ibv_wc_status
};

struct SendWork {
  uint64_t id;
  Packet packet;
  std::vector<iovec> parts;
  std::vector<std::byte> inlined;
  bool signaled;
  uint64_t sent = 0;  // bytes of packet and payload in the socket
  uint64_t whole() const { return sizeof(Packet) + packet.bytes; }
};

struct Channel : ibv_comp_channel, Counted {
  std::deque<ibv_cq*> events;
};
struct Domain : ibv_pd, Counted {};
struct Region : ibv_mr, Counted {
  int access = 0;
  std::byte* memory = nullptr;  // where the NIC finds what programs call `addr`
  bool own = false;             // a mapping of the NIC's

  bool contains(uint64_t at, uint64_t bytes) const {
    const auto base = reinterpret_cast<uint64_t>(addr);
    return at >= base && bytes <= length && at - base <= length - bytes;
  }
  std::byte* find(uint64_t at) const { return memory + (at - reinterpret_cast<uint64_t>(addr)); }
  ~Region() {
    if (own) ::munmap(memory, length);
  }
};
struct CompletionQueue : ibv_cq, Counted {
  std::deque<ibv_wc> entries;
  bool armed = false;
};
struct Incoming {
  Fd socket;
  Packet packet{};
  uint64_t got = 0;  // bytes of packet and payload
  std::byte* target = nullptr;
};
struct QueuePair : ibv_qp, Counted {
  ibv_qp_cap cap{};
  ibv_qp_attr attributes{};
  Fd listening, out;
  std::vector<Incoming> in;
  std::deque<SendWork> sends;  // those before `unsent` wait for their answers
  size_t unsent = 0;
  std::deque<uint64_t> receives;
  Clock::time_point last_answer;
};

struct Context : ibv_context, Counted {
  FakeDevice* fake = nullptr;
  std::mutex lock_;
  std::map<uint32_t, Region*> regions;
  std::set<QueuePair*> queue_pairs;
  std::deque<ibv_async_event> events;
  uint32_t next_key = 1;
  bool forgetful = false;
  Fd wake, async;
  std::atomic<bool> stop{false};
  std::thread nic;

  void rouse() const {
    const uint64_t one = 1;
    (void)!::write(wake.fd, &one, sizeof one);
  }
};
Context& of(ibv_context* context) { return *static_cast<Context*>(context); }
QueuePair& of(ibv_qp* qp) { return *static_cast<QueuePair*>(qp); }
CompletionQueue& of(ibv_cq* cq) { return *static_cast<CompletionQueue*>(cq); }

void raise_event(Context& context, ibv_event_type type, int port, ibv_qp* qp = nullptr) {
  ibv_async_event event{};
  event.event_type = type;
  if (qp != nullptr)
    event.element.qp = qp;
  else
    event.element.port_num = port;
  context.events.push_back(event);
  const uint64_t one = 1;
  (void)!::write(context.async.fd, &one, sizeof one);
}

void complete(ibv_cq* queue, ibv_wc entry) {
  CompletionQueue& cq = of(queue);
  if (cq.entries.size() >= static_cast<size_t>(cq.cqe)) {
    std::fprintf(stderr, "fake rdma: a completion queue of %d entries overran\n", cq.cqe);
    std::abort();
  }
  cq.entries.push_back(entry);
  if (!cq.armed || cq.channel == nullptr) return;
  cq.armed = false;
  static_cast<Channel*>(cq.channel)->events.push_back(queue);
  const uint64_t one = 1;
  (void)!::write(cq.channel->fd, &one, sizeof one);
}

void complete_send(QueuePair& qp, const SendWork& work, ibv_wc_status status) {
  if (status == IBV_WC_SUCCESS && !work.signaled) return;
  ibv_wc entry{};
  entry.wr_id = work.id;
  entry.status = status;
  entry.opcode = IBV_WC_RDMA_WRITE;
  entry.qp_num = qp.qp_num;
  complete(qp.send_cq, entry);
}

void flush(QueuePair& qp) {
  for (const SendWork& work : qp.sends) complete_send(qp, work, IBV_WC_WR_FLUSH_ERR);
  qp.sends.clear();
  qp.unsent = 0;
  for (const uint64_t id : qp.receives) {
    ibv_wc entry{};
    entry.wr_id = id;
    entry.status = IBV_WC_WR_FLUSH_ERR;
    entry.opcode = IBV_WC_RECV_RDMA_WITH_IMM;
    entry.qp_num = qp.qp_num;
    complete(qp.recv_cq, entry);
  }
  qp.receives.clear();
}

void fail(QueuePair& qp) {
  qp.state = IBV_QPS_ERR;
  qp.out.reset();
  qp.in.clear();
  flush(qp);
}

// The first work fails for this reason, the rest is flushed.
void fail_first(QueuePair& qp, ibv_wc_status status) {
  const SendWork first = std::move(qp.sends.front());
  qp.sends.pop_front();
  complete_send(qp, first, status);
  fail(qp);
}

bool carries(const QueuePair& qp) {
  return of(qp.context).fake->ports[static_cast<size_t>(qp.attributes.port_num - 1)].up;
}

// Puts as much of the send queue into the socket as it takes.
void transmit(QueuePair& qp) {
  if (qp.state != IBV_QPS_RTS || !qp.out || !carries(qp)) return;
  while (qp.unsent < qp.sends.size()) {
    SendWork& work = qp.sends[qp.unsent];
    std::vector<iovec> parts;
    parts.push_back({&work.packet, sizeof work.packet});
    if (!work.inlined.empty()) parts.push_back({work.inlined.data(), work.inlined.size()});
    parts.insert(parts.end(), work.parts.begin(), work.parts.end());
    uint64_t skip = work.sent;
    for (iovec& part : parts) {
      const uint64_t less = std::min<uint64_t>(skip, part.iov_len);
      part.iov_base = static_cast<char*>(part.iov_base) + less;
      part.iov_len -= less;
      skip -= less;
    }
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    const ssize_t sent = ::sendmsg(qp.out.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) return;  // full, or the other end is gone: the retry timer ends that
    work.sent += static_cast<uint64_t>(sent);
    qp.last_answer = Clock::now();  // the other end takes what is sent
    if (work.sent < work.whole()) return;
    ++qp.unsent;
  }
}

void take_answers(QueuePair& qp) {
  Answer answer;
  while (qp.out && carries(qp) && ::recv(qp.out.fd, &answer, sizeof answer, MSG_DONTWAIT) == sizeof answer) {
    qp.last_answer = Clock::now();
    if (answer.status != IBV_WC_SUCCESS) return fail_first(qp, static_cast<ibv_wc_status>(answer.status));
    complete_send(qp, qp.sends.front(), IBV_WC_SUCCESS);
    qp.sends.pop_front();
    --qp.unsent;
  }
}

void watch_retries(QueuePair& qp) {
  if (qp.sends.empty() || qp.state != IBV_QPS_RTS) return;
  const double seconds = 4.096e-6 * static_cast<double>(1ull << qp.attributes.timeout) * (qp.attributes.retry_cnt + 1);
  if (std::chrono::duration<double>(Clock::now() - qp.last_answer).count() > seconds)
    fail_first(qp, IBV_WC_RETRY_EXC_ERR);
}

// Where a write may go; null if it may not.
std::byte* writable(Context& context, const QueuePair& qp, const Packet& packet) {
  const auto found = context.regions.find(packet.key);
  if (found == context.regions.end() || context.forgetful) return nullptr;
  const Region& region = *found->second;
  if (region.pd != qp.pd || (region.access & IBV_ACCESS_REMOTE_WRITE) == 0) return nullptr;
  return region.contains(packet.remote_address, packet.bytes) ? region.find(packet.remote_address) : nullptr;
}

void answer(Incoming& in, ibv_wc_status status) {
  const Answer reply{static_cast<uint32_t>(status)};
  (void)!::send(in.socket.fd, &reply, sizeof reply, MSG_NOSIGNAL);
}

// Takes what has come on one stream. False: the stream has ended, or the queue pair has failed.
bool receive(Context& context, QueuePair& qp, Incoming& in) {
  for (;;) {
    if (in.got < sizeof(Packet)) {
      const ssize_t got =
          ::recv(in.socket.fd, reinterpret_cast<char*>(&in.packet) + in.got, sizeof(Packet) - in.got, MSG_DONTWAIT);
      if (got < 0) return errno == EAGAIN;
      if (got == 0) return false;
      in.got += static_cast<uint64_t>(got);
      if (in.got < sizeof(Packet)) return true;
      const FakePort& port = context.fake->ports[static_cast<size_t>(qp.attributes.port_num - 1)];
      const int index = context.fake->infiniband ? 0 : qp.attributes.ah_attr.grh.sgid_index;
      // Not for this address, or not from the queue pair that this one is connected to: as if it had never come.
      if ((!context.fake->infiniband && std::memcmp(port.gids[index].gid.raw, in.packet.to_gid, 16) != 0) ||
          in.packet.from_queue_pair != qp.attributes.dest_qp_num)
        return false;
      in.target = writable(context, qp, in.packet);
      if (in.packet.bytes > 0 && in.target == nullptr) {
        answer(in, IBV_WC_REM_ACCESS_ERR);
        raise_event(context, IBV_EVENT_QP_ACCESS_ERR, 0, &qp);
        fail(qp);
        return false;
      }
    }
    const uint64_t payload = in.got - sizeof(Packet);
    if (payload < in.packet.bytes) {
      const ssize_t got = ::recv(in.socket.fd, in.target + payload, in.packet.bytes - payload, MSG_DONTWAIT);
      if (got < 0) return errno == EAGAIN;
      if (got == 0) return false;
      in.got += static_cast<uint64_t>(got);
      if (in.got < sizeof(Packet) + in.packet.bytes) return true;
    }
    if (in.packet.has_immediate != 0) {
      if (qp.receives.empty()) return true;  // receiver not ready: it comes again
      ibv_wc entry{};
      entry.wr_id = qp.receives.front();
      entry.status = IBV_WC_SUCCESS;
      entry.opcode = IBV_WC_RECV_RDMA_WITH_IMM;
      entry.byte_len = static_cast<uint32_t>(in.packet.bytes);
      entry.imm_data = in.packet.immediate;
      entry.wc_flags = IBV_WC_WITH_IMM;
      entry.qp_num = qp.qp_num;
      qp.receives.pop_front();
      complete(qp.recv_cq, entry);
    }
    in.got = 0;
    answer(in, IBV_WC_SUCCESS);
  }
}

void serve(Context& context, QueuePair& qp) {
  if (qp.attributes.port_num == 0 || !carries(qp)) return watch_retries(qp);
  if (qp.state == IBV_QPS_RTR || qp.state == IBV_QPS_RTS) {
    for (int fd; (fd = ::accept4(qp.listening.fd, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
      qp.in.emplace_back();
      qp.in.back().socket = Fd(fd);
    }
    for (size_t i = 0; i < qp.in.size();) {
      if (receive(context, qp, qp.in[i])) {
        ++i;
        continue;
      }
      if (qp.state == IBV_QPS_ERR) return;
      qp.in.erase(qp.in.begin() + static_cast<ptrdiff_t>(i));
    }
  }
  transmit(qp);
  take_answers(qp);
  watch_retries(qp);
}

void run_nic(Context& context) {
  std::vector<pollfd> items;
  while (!context.stop) {
    items.assign(1, {context.wake.fd, POLLIN, 0});
    bool outstanding = false;
    {
      const std::lock_guard guard(context.lock_);
      for (QueuePair* qp : context.queue_pairs) {
        serve(context, *qp);
        outstanding |= !qp->sends.empty();
        if (qp->attributes.port_num == 0 || !carries(*qp)) continue;
        if (qp->state != IBV_QPS_RTR && qp->state != IBV_QPS_RTS) continue;
        items.push_back({qp->listening.fd, POLLIN, 0});
        for (const Incoming& in : qp->in)
          // A stream whose packet waits for a receive is looked at when one is posted.
          if (in.got < sizeof(Packet) + in.packet.bytes || in.got == 0) items.push_back({in.socket.fd, POLLIN, 0});
        if (qp->out && !qp->sends.empty()) {
          const short events = static_cast<short>(POLLIN | (qp->unsent < qp->sends.size() ? POLLOUT : 0));
          items.push_back({qp->out.fd, events, 0});
        }
      }
    }
    constexpr int kLookMs = 5;
    (void)::poll(items.data(), items.size(), outstanding ? kLookMs : 50);
    uint64_t count;
    if ((items[0].revents & POLLIN) != 0) (void)!::read(context.wake.fd, &count, sizeof count);
    // The other end has hung up, but what it owes is not yet overdue: do not spin on its socket.
    for (const pollfd& item : items)
      if ((item.revents & (POLLHUP | POLLERR)) != 0) {
        std::this_thread::sleep_for(std::chrono::microseconds(200));
        break;
      }
  }
}

sockaddr_un address_of(uint32_t number, socklen_t& length) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = "tutti-fake-rdma/" + std::to_string(number);
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return address;
}

int post_send(ibv_qp* queue_pair, ibv_send_wr* work, ibv_send_wr** bad) {
  QueuePair& qp = of(queue_pair);
  Context& context = of(qp.context);
  const std::lock_guard guard(context.lock_);
  for (; work != nullptr; work = work->next) {
    *bad = work;
    if (qp.state != IBV_QPS_RTS && qp.state != IBV_QPS_ERR) return EINVAL;
    if (work->opcode != IBV_WR_RDMA_WRITE && work->opcode != IBV_WR_RDMA_WRITE_WITH_IMM) return EINVAL;
    if (qp.sends.size() >= qp.cap.max_send_wr || static_cast<uint32_t>(work->num_sge) > qp.cap.max_send_sge)
      return ENOMEM;
    SendWork made{};
    made.id = work->wr_id;
    made.signaled = (work->send_flags & IBV_SEND_SIGNALED) != 0;
    made.packet.remote_address = work->wr.rdma.remote_addr;
    made.packet.key = work->wr.rdma.rkey;
    made.packet.has_immediate = work->opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
    made.packet.immediate = work->imm_data;
    made.packet.from_queue_pair = qp.qp_num;
    std::memcpy(made.packet.to_gid, qp.attributes.ah_attr.grh.dgid.raw, 16);
    for (int i = 0; i < work->num_sge; ++i) {
      const ibv_sge& part = work->sg_list[i];
      made.packet.bytes += part.length;
      if ((work->send_flags & IBV_SEND_INLINE) != 0) {
        if (made.packet.bytes > qp.cap.max_inline_data) return ENOMEM;
        const auto* from = reinterpret_cast<const std::byte*>(part.addr);
        made.inlined.insert(made.inlined.end(), from, from + part.length);
        continue;
      }
      const auto found = context.regions.find(part.lkey);
      const bool inside = found != context.regions.end() && found->second->pd == qp.pd &&
                          found->second->contains(part.addr, part.length);
      if (!inside) {
        complete_send(qp, made, IBV_WC_LOC_PROT_ERR);
        fail(qp);
        return 0;
      }
      made.parts.push_back({found->second->find(part.addr), part.length});
    }
    if (qp.state == IBV_QPS_ERR) {
      complete_send(qp, made, IBV_WC_WR_FLUSH_ERR);
      continue;
    }
    if (qp.sends.empty()) qp.last_answer = Clock::now();
    qp.sends.push_back(std::move(made));
  }
  transmit(qp);
  context.rouse();
  return 0;
}

int post_receive(ibv_qp* queue_pair, ibv_recv_wr* work, ibv_recv_wr** bad) {
  QueuePair& qp = of(queue_pair);
  Context& context = of(qp.context);
  const std::lock_guard guard(context.lock_);
  for (; work != nullptr; work = work->next) {
    *bad = work;
    if (qp.state == IBV_QPS_RESET) return EINVAL;
    if (qp.receives.size() >= qp.cap.max_recv_wr) return ENOMEM;
    qp.receives.push_back(work->wr_id);
  }
  if (qp.state == IBV_QPS_ERR) flush(qp);
  // Only a packet that waits needs the thread for it.
  for (const Incoming& in : qp.in)
    if (in.got >= sizeof(Packet)) {
      context.rouse();
      break;
    }
  return 0;
}

int poll_queue(ibv_cq* queue, int most, ibv_wc* entries) {
  CompletionQueue& cq = of(queue);
  Context& context = of(queue->context);
  const std::lock_guard guard(context.lock_);
  // Who polls lends a hand: on a busy machine the thread may have to wait for a processor while pollers spin.
  if (cq.entries.empty())
    for (QueuePair* qp : context.queue_pairs) serve(context, *qp);
  int count = 0;
  for (; count < most && !cq.entries.empty(); ++count) {
    entries[count] = cq.entries.front();
    cq.entries.pop_front();
  }
  return count;
}

int arm(ibv_cq* queue, int) {
  const std::lock_guard guard(of(queue->context).lock_);
  of(queue).armed = true;
  return 0;
}

}  // namespace

// --- devices ---

EXPORT ibv_device** ibv_get_device_list(int* count) {
  Machine& all = machine();
  *count = static_cast<int>(all.devices.size());
  auto** list = new ibv_device* [all.devices.size() + 1] {};
  for (size_t i = 0; i < all.devices.size(); ++i) list[i] = &all.devices[i]->device;
  return list;
}
EXPORT void ibv_free_device_list(ibv_device** list) { delete[] list; }
EXPORT const char* ibv_get_device_name(ibv_device* device) {
  return reinterpret_cast<FakeDevice*>(device)->name.c_str();
}
EXPORT __be64 ibv_get_device_guid(ibv_device* device) {
  const auto& all = machine().devices;
  for (size_t i = 0; i < all.size(); ++i)
    if (&all[i]->device == device) return __builtin_bswap64(0x0200000000000000ull + i);
  return 0;
}
EXPORT ibv_context* ibv_open_device(ibv_device* device) {
  auto* made = new Context;
  made->fake = reinterpret_cast<FakeDevice*>(device);
  made->device = device;
  made->wake = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  made->async = Fd(::eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE));
  made->async_fd = made->async.fd;
  made->cmd_fd = -1;
  made->num_comp_vectors = 1;
  made->ops.post_send = post_send;
  made->ops.post_recv = post_receive;
  made->ops.poll_cq = poll_queue;
  made->ops.req_notify_cq = arm;
  {
    const std::lock_guard guard(machine().lock);
    machine().contexts.insert(made);
  }
  made->nic = std::thread([made] { run_nic(*made); });
  return made;
}
EXPORT int ibv_close_device(ibv_context* context) {
  Context& closed = of(context);
  {
    const std::lock_guard guard(machine().lock);
    machine().contexts.erase(&closed);
  }
  closed.stop = true;
  closed.rouse();
  closed.nic.join();
  delete &closed;
  return 0;
}
EXPORT int ibv_query_device(ibv_context* context, ibv_device_attr* attributes) {
  *attributes = {};
  std::strcpy(attributes->fw_ver, "fake");
  attributes->max_qp = 1 << 16;
  attributes->max_qp_wr = 8192;
  attributes->max_cqe = 1 << 16;
  attributes->max_mr_size = UINT64_MAX;
  attributes->max_sge = 8;
  attributes->phys_port_cnt = static_cast<uint8_t>(of(context).fake->ports.size());
  return 0;
}
EXPORT int ibv_query_port(ibv_context* context, uint8_t number, _compat_ibv_port_attr* compatible) {
  auto* attributes = reinterpret_cast<ibv_port_attr*>(compatible);  // which begins with it
  Context& opened = of(context);
  const std::lock_guard guard(opened.lock_);
  const FakePort& port = opened.fake->ports[static_cast<size_t>(number - 1)];
  attributes->state = port.active ? IBV_PORT_ACTIVE : IBV_PORT_DOWN;
  attributes->link_layer = opened.fake->infiniband ? IBV_LINK_LAYER_INFINIBAND : IBV_LINK_LAYER_ETHERNET;
  attributes->active_width = 2;
  attributes->active_speed = 32;
  attributes->active_mtu = IBV_MTU_4096;
  attributes->lid = opened.fake->infiniband ? static_cast<uint16_t>(100 + number) : 0;
  attributes->gid_tbl_len = kGids;
  return 0;
}
EXPORT int ibv_query_gid(ibv_context* context, uint8_t port, int index, ibv_gid* gid) {
  Context& opened = of(context);
  const std::lock_guard guard(opened.lock_);
  *gid = opened.fake->ports[static_cast<size_t>(port - 1)].gids[index].gid;
  return 0;
}
EXPORT int _ibv_query_gid_ex(ibv_context* context, uint32_t port, uint32_t index, ibv_gid_entry* entry, uint32_t,
                             size_t) {
  Context& opened = of(context);
  const std::lock_guard guard(opened.lock_);
  if (port < 1 || port > opened.fake->ports.size() || index >= kGids) return EINVAL;
  const FakeGid& one = opened.fake->ports[port - 1].gids[index];
  if (one.gid.global.interface_id == 0) return ENODATA;
  *entry = {};
  entry->gid = one.gid;
  entry->gid_index = index;
  entry->port_num = port;
  entry->gid_type = static_cast<uint32_t>(one.type);
  return 0;
}
EXPORT int ibv_query_pkey(ibv_context*, uint8_t, int, __be16* key) {
  *key = 0xffff;
  return 0;
}
EXPORT int ibv_get_async_event(ibv_context* context, ibv_async_event* event) {
  Context& opened = of(context);
  uint64_t one;
  if (::read(opened.async.fd, &one, sizeof one) != sizeof one) return -1;
  const std::lock_guard guard(opened.lock_);
  *event = opened.events.front();
  opened.events.pop_front();
  return 0;
}
EXPORT void ibv_ack_async_event(ibv_async_event*) {}

// --- memory ---

EXPORT ibv_pd* ibv_alloc_pd(ibv_context* context) {
  auto* made = new Domain;
  made->context = context;
  return made;
}
EXPORT int ibv_dealloc_pd(ibv_pd* domain) {
  delete static_cast<Domain*>(domain);
  return 0;
}
namespace {
bool in_gpu(const void* address) {
  std::ifstream maps("/proc/self/maps");
  const auto at = reinterpret_cast<uint64_t>(address);
  for (std::string line; std::getline(maps, line);) {
    unsigned long long from = 0, to = 0;
    if (std::sscanf(line.c_str(), "%llx-%llx", &from, &to) != 2 || at < from || at >= to) continue;
    return line.find("/memfd:fake-cuda-device") != std::string::npos;
  }
  return false;
}
ibv_mr* add_region(ibv_pd* domain, void* address, size_t bytes, int access, void* memory, bool own) {
  if (memory == MAP_FAILED) return nullptr;
  Context& context = of(domain->context);
  auto* made = new Region;
  made->context = domain->context;
  made->pd = domain;
  made->addr = address;
  made->length = bytes;
  made->access = access;
  made->memory = static_cast<std::byte*>(memory);
  made->own = own;
  const std::lock_guard guard(context.lock_);
  made->lkey = made->rkey = context.next_key++ * 0x9E3779B1u;
  context.regions[made->rkey] = made;
  return made;
}
}  // namespace

EXPORT ibv_mr* ibv_reg_mr(ibv_pd* domain, void* address, size_t bytes, int access) {
  {
    const std::lock_guard guard(machine().lock);
    if (machine().refuse_memory != 0) {
      if (machine().refuse_memory > 0) --machine().refuse_memory;
      errno = ENOMEM;
      return nullptr;
    }
  }
  if (!in_gpu(address)) return add_region(domain, address, bytes, access, address, false);
  if (!of(domain->context).fake->peer_memory) {
    errno = EFAULT;
    return nullptr;
  }
  void* const again = ::mremap(address, 0, bytes, MREMAP_MAYMOVE);  // the same pages of a shared mapping
  if (again != MAP_FAILED) (void)::mprotect(again, bytes, PROT_READ | PROT_WRITE);
  return add_region(domain, address, bytes, access, again, true);
}
EXPORT ibv_mr* ibv_reg_dmabuf_mr(ibv_pd* domain, uint64_t offset, size_t bytes, uint64_t address, int fd, int access) {
  if (!of(domain->context).fake->dma_buf) {
    errno = EOPNOTSUPP;
    return nullptr;
  }
  const off_t begin = ::lseek(fd, 0, SEEK_CUR);  // fake_cuda.cc
  if (begin < 0) return nullptr;
  void* const mapped =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, begin + static_cast<off_t>(offset));
  return add_region(domain, reinterpret_cast<void*>(address), bytes, access, mapped, true);
}
EXPORT int ibv_dereg_mr(ibv_mr* region) {
  Context& context = of(region->context);
  const std::lock_guard guard(context.lock_);
  context.regions.erase(region->rkey);
  delete static_cast<Region*>(region);
  return 0;
}

// --- completions ---

EXPORT ibv_comp_channel* ibv_create_comp_channel(ibv_context* context) {
  auto* made = new Channel;
  made->context = context;
  made->fd = ::eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
  return made;
}
EXPORT int ibv_destroy_comp_channel(ibv_comp_channel* channel) {
  ::close(channel->fd);
  delete static_cast<Channel*>(channel);
  return 0;
}
EXPORT ibv_cq* ibv_create_cq(ibv_context* context, int entries, void* user, ibv_comp_channel* channel, int) {
  auto* made = new CompletionQueue;
  made->context = context;
  made->channel = channel;
  made->cq_context = user;
  made->cqe = entries;
  return made;
}
EXPORT int ibv_destroy_cq(ibv_cq* queue) {
  const std::lock_guard guard(of(queue->context).lock_);
  delete static_cast<CompletionQueue*>(queue);
  return 0;
}
EXPORT int ibv_get_cq_event(ibv_comp_channel* channel, ibv_cq** queue, void** user) {
  uint64_t one;
  if (::read(channel->fd, &one, sizeof one) != sizeof one) return -1;
  const std::lock_guard guard(of(channel->context).lock_);
  auto& events = static_cast<Channel*>(channel)->events;
  *queue = events.front();
  *user = (*queue)->cq_context;
  events.pop_front();
  return 0;
}
EXPORT void ibv_ack_cq_events(ibv_cq*, unsigned) {}

// --- queue pairs ---

EXPORT ibv_qp* ibv_create_qp(ibv_pd* domain, ibv_qp_init_attr* wanted) {
  constexpr uint32_t kMostInline = 512;
  if (wanted->qp_type != IBV_QPT_RC || wanted->cap.max_inline_data > kMostInline) {
    errno = EINVAL;
    return nullptr;
  }
  Context& context = of(domain->context);
  auto made = std::make_unique<QueuePair>();
  made->context = domain->context;
  made->pd = domain;
  made->send_cq = wanted->send_cq;
  made->recv_cq = wanted->recv_cq;
  made->qp_type = wanted->qp_type;
  made->cap = wanted->cap;
  made->state = IBV_QPS_RESET;
  made->listening = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  std::random_device dice;
  for (;;) {
    made->qp_num = dice() & 0xffffff;
    socklen_t length;
    const sockaddr_un address = address_of(made->qp_num, length);
    if (::bind(made->listening.fd, reinterpret_cast<const sockaddr*>(&address), length) == 0) break;
  }
  if (::listen(made->listening.fd, 4) != 0) return nullptr;
  const std::lock_guard guard(context.lock_);
  context.queue_pairs.insert(made.get());
  return made.release();
}
EXPORT int ibv_modify_qp(ibv_qp* queue_pair, ibv_qp_attr* wanted, int mask) {
  QueuePair& qp = of(queue_pair);
  Context& context = of(qp.context);
  const std::lock_guard guard(context.lock_);
  if ((mask & IBV_QP_STATE) == 0) return EINVAL;
  const ibv_qp_state next = wanted->qp_state;
  if (next == IBV_QPS_ERR) {
    fail(qp);
    return 0;
  }
  const bool in_order = (next == IBV_QPS_INIT && qp.state == IBV_QPS_RESET) ||
                        (next == IBV_QPS_RTR && qp.state == IBV_QPS_INIT) ||
                        (next == IBV_QPS_RTS && qp.state == IBV_QPS_RTR);
  if (!in_order) return EINVAL;
  if (next == IBV_QPS_INIT) qp.attributes.port_num = wanted->port_num;
  if (next == IBV_QPS_RTR) {
    const bool ethernet = !context.fake->infiniband;
    if (ethernet && wanted->ah_attr.is_global == 0) return EINVAL;
    const FakePort& port = context.fake->ports[static_cast<size_t>(qp.attributes.port_num - 1)];
    if (ethernet && port.gids[wanted->ah_attr.grh.sgid_index].gid.global.interface_id == 0) return EINVAL;
    qp.attributes.ah_attr = wanted->ah_attr;
    qp.attributes.dest_qp_num = wanted->dest_qp_num;
    qp.out = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    socklen_t length;
    const sockaddr_un address = address_of(wanted->dest_qp_num, length);
    // Nobody there: what is sent is lost, and the retry timer tells.
    if (::connect(qp.out.fd, reinterpret_cast<const sockaddr*>(&address), length) != 0) qp.out.reset();
  }
  if (next == IBV_QPS_RTS) {
    qp.attributes.timeout = wanted->timeout;
    qp.attributes.retry_cnt = wanted->retry_cnt;
  }
  qp.state = next;
  context.rouse();
  return 0;
}
EXPORT int ibv_query_qp(ibv_qp* qp, ibv_qp_attr* attributes, int, ibv_qp_init_attr* initial) {
  const std::lock_guard guard(of(qp->context).lock_);
  *attributes = of(qp).attributes;
  attributes->qp_state = qp->state;
  *initial = {};
  initial->cap = of(qp).cap;
  return 0;
}
EXPORT int ibv_destroy_qp(ibv_qp* queue_pair) {
  Context& context = of(queue_pair->context);
  const std::lock_guard guard(context.lock_);
  context.queue_pairs.erase(&of(queue_pair));
  // As drivers do: completions of a queue pair that is gone go with it.
  for (ibv_cq* queue : {queue_pair->send_cq, queue_pair->recv_cq})
    std::erase_if(of(queue).entries, [&](const ibv_wc& entry) { return entry.qp_num == queue_pair->qp_num; });
  delete &of(queue_pair);
  return 0;
}

// --- words, and what is not there ---

EXPORT const char* ibv_port_state_str(ibv_port_state state) {
  return state == IBV_PORT_ACTIVE ? "PORT_ACTIVE" : "PORT_DOWN";
}
EXPORT const char* ibv_event_type_str(ibv_event_type type) {
  switch (type) {
    case IBV_EVENT_PORT_ERR:
      return "port error";
    case IBV_EVENT_PORT_ACTIVE:
      return "port active";
    case IBV_EVENT_GID_CHANGE:
      return "GID table change";
    case IBV_EVENT_QP_ACCESS_ERR:
      return "local access violation work queue error";
    default:
      return "event";
  }
}
EXPORT const char* ibv_wc_status_str(ibv_wc_status status) {
  switch (status) {
    case IBV_WC_SUCCESS:
      return "success";
    case IBV_WC_RETRY_EXC_ERR:
      return "transport retry counter exceeded";
    case IBV_WC_REM_ACCESS_ERR:
      return "remote access error";
    case IBV_WC_LOC_PROT_ERR:
      return "local protection error";
    case IBV_WC_WR_FLUSH_ERR:
      return "Work Request Flushed Error";
    default:
      return "another status";
  }
}
EXPORT ibv_srq* ibv_create_srq(ibv_pd*, ibv_srq_init_attr*) { return nullptr; }
EXPORT int ibv_destroy_srq(ibv_srq*) { return EINVAL; }
EXPORT ibv_ah* ibv_create_ah(ibv_pd*, ibv_ah_attr*) { return nullptr; }
EXPORT int ibv_destroy_ah(ibv_ah*) { return EINVAL; }
EXPORT int ibv_fork_init() { return 0; }

// --- controls (fake_rdma.h) ---

namespace {
template <class Use>
void each_context_of(int device, Use use) {
  const std::lock_guard guard(machine().lock);
  FakeDevice* const fake = machine().devices[static_cast<size_t>(device)].get();
  // All locks of the device at once: its state is read under any one of them.
  std::vector<std::unique_lock<std::mutex>> locks;
  for (Context* context : machine().contexts)
    if (context->fake == fake) locks.emplace_back(context->lock_);
  use(*fake);
}
template <class Use>
void each_context(const FakeDevice& fake, Use use) {
  for (Context* context : machine().contexts)
    if (context->fake == &fake) use(*context);
}
}  // namespace

EXPORT void fake_rdma_set_port(int device, int port, bool up, bool noticed) {
  each_context_of(device, [&](FakeDevice& fake) {
    FakePort& one = fake.ports[static_cast<size_t>(port - 1)];
    one.up = up;
    if (noticed) one.active = up;
    each_context(fake, [&](Context& context) {
      if (noticed) raise_event(context, up ? IBV_EVENT_PORT_ACTIVE : IBV_EVENT_PORT_ERR, port);
      context.rouse();
    });
  });
}
EXPORT void fake_rdma_move_gid(int device, int port, int from, int to) {
  each_context_of(device, [&](FakeDevice& fake) {
    auto& gids = fake.ports[static_cast<size_t>(port - 1)].gids;
    gids[to] = gids[from];
    gids[from] = {};
    each_context(fake, [&](Context& context) { raise_event(context, IBV_EVENT_GID_CHANGE, port); });
  });
}
EXPORT void fake_rdma_refuse_memory(int count) {
  const std::lock_guard guard(machine().lock);
  machine().refuse_memory = count;
}
EXPORT void fake_rdma_gpu_memory(int device, bool dma_buf, bool peer_memory) {
  FakeDevice& fake = *machine().devices[static_cast<size_t>(device)];
  fake.dma_buf = dma_buf;
  fake.peer_memory = peer_memory;
}
EXPORT void fake_rdma_forget_keys(int device) {
  each_context_of(device,
                  [&](FakeDevice& fake) { each_context(fake, [&](Context& context) { context.forgetful = true; }); });
}
EXPORT int fake_rdma_live_objects() { return machine().live; }
