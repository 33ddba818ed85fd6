// SPDX-License-Identifier: Apache-2.0
// See pmix.h.
#include "bootstrap/pmix.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "base/dynamic_library.h"

namespace tutti {
namespace {

// The PMIx standard, version 2 and later: names and numbers as it gives them.
struct Process {
  char name_space[256];
  uint32_t rank;
};
struct Value {
  uint16_t type;
  union {
    bool flag;
    char* text;
    uint16_t uint16;
    uint32_t uint32;
    char room[64];  // more than any kind of value takes
  } data;
};
struct Info {
  char key[512];
  uint32_t flags;
  Value value;
};
constexpr uint16_t kBool = 1, kString = 3, kUint16 = 13, kUint32 = 14;
constexpr uint8_t kGlobal = 3;
constexpr int kSuccess = 0;
constexpr uint32_t kAnyRank = UINT32_MAX - 1;

struct Functions {
  int (*init)(Process*, Info*, size_t);
  int (*finalize)(const Info*, size_t);
  int (*put)(uint8_t, const char*, Value*);
  int (*commit)();
  int (*fence)(const Process*, size_t, const Info*, size_t);
  int (*get)(const Process*, const char*, const Info*, size_t, Value**);
};

Status failed(const char* call, int code) {
  return remote_error("PMIx: {} failed with status {}: is this process one of the launcher's?", call, code);
}

class Session {
 public:
  static Result<Session> open(const std::string& library) {
    auto loaded = DynamicLibrary::open(library, {"libpmix.so.2", "libpmix.so"});
    if (!loaded.ok())
      return invalid_usage(
          "the launcher serves PMIx (PMIX_RANK is set), but libpmix.so.2 {}; install it (libpmix2), or set RANK, "
          "WORLD_SIZE, MASTER_ADDR and MASTER_PORT",
          loaded.status().message());
    Session session;
    Functions& f = session.functions_;
    const bool whole = loaded->bind("PMIx_Init", f.init) && loaded->bind("PMIx_Finalize", f.finalize) &&
                       loaded->bind("PMIx_Put", f.put) && loaded->bind("PMIx_Commit", f.commit) &&
                       loaded->bind("PMIx_Fence", f.fence) && loaded->bind("PMIx_Get", f.get);
    if (!whole) return system_error("{} is no PMIx library: it lacks a function of the standard", loaded->name());
    if (const int code = f.init(&session.me_, nullptr, 0); code != kSuccess) return failed("PMIx_Init", code);
    session.open_ = true;
    return session;
  }
  Session(Session&& other) noexcept
      : functions_(other.functions_), me_(other.me_), open_(std::exchange(other.open_, false)) {}
  Session& operator=(Session&&) = delete;
  ~Session() {
    if (open_) (void)functions_.finalize(nullptr, 0);
  }

  Result<LaunchPlace> place() const {
    LaunchPlace place;
    place.rank = static_cast<int>(me_.rank);
    TUTTI_ASSIGN_OR_RETURN(place.ranks, number("pmix.job.size", kAnyRank));
    const Result<int> local = number("pmix.lrank", me_.rank);
    place.local_rank = local.ok() ? *local : 0;
    return place;
  }
  Status put(const char* key, std::string text) {
    Value value{};
    value.type = kString;
    value.data.text = text.data();
    if (const int code = functions_.put(kGlobal, key, &value); code != kSuccess) return failed("PMIx_Put", code);
    if (const int code = functions_.commit(); code != kSuccess) return failed("PMIx_Commit", code);
    return {};
  }
  Status fence() {
    Info collect{};
    std::strcpy(collect.key, "pmix.collect");
    collect.value.type = kBool;
    collect.value.data.flag = true;
    const Process all = of(kAnyRank);
    if (const int code = functions_.fence(&all, 1, &collect, 1); code != kSuccess) return failed("PMIx_Fence", code);
    return {};
  }
  Result<std::string> text(const char* key, uint32_t rank) const {
    Value* value = nullptr;
    const Process whose = of(rank);
    const int code = functions_.get(&whose, key, nullptr, 0, &value);
    if (code != kSuccess || value == nullptr) return failed("PMIx_Get", code);
    std::string text;
    if (value->type == kString && value->data.text != nullptr) {
      text = value->data.text;
      std::free(value->data.text);
    }
    std::free(value);
    return text;
  }

 private:
  Session() = default;
  Process of(uint32_t rank) const {
    Process process = me_;
    process.rank = rank;
    return process;
  }
  Result<int> number(const char* key, uint32_t rank) const {
    Value* value = nullptr;
    const Process whose = of(rank);
    const int code = functions_.get(&whose, key, nullptr, 0, &value);
    if (code != kSuccess || value == nullptr) return failed("PMIx_Get", code);
    const uint16_t type = value->type;
    const int number = type == kUint32 ? static_cast<int>(value->data.uint32) : value->data.uint16;
    std::free(value);
    if (type != kUint32 && type != kUint16) return remote_error("PMIx: {} is of type {}, no number", key, type);
    return number;
  }

  Functions functions_{};
  Process me_{};
  bool open_ = false;
};

constexpr const char* kKey = "tutti-meeting";

}  // namespace

Result<PmixAnswer> share_by_pmix(const std::string& library, const std::function<Result<std::string>()>& mine) {
  TUTTI_ASSIGN_OR_RETURN(Session session, Session::open(library));
  PmixAnswer answer;
  TUTTI_ASSIGN_OR_RETURN(answer.place, session.place());
  Status failed;
  if (answer.place.rank == 0) {
    const Result<std::string> text = mine();
    failed = text.status();
    TUTTI_TRY(session.put(kKey, text.ok() ? *text : kNoMeeting));  // the others wait for something
  }
  TUTTI_TRY(session.fence());
  TUTTI_TRY(failed);
  TUTTI_ASSIGN_OR_RETURN(answer.text, session.text(kKey, 0));
  return answer;
}

}  // namespace tutti
