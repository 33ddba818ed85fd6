// SPDX-License-Identifier: Apache-2.0
#include "group/stream.h"

#include "base/thread.h"

namespace tutti {

uint64_t Event::recorded() const {
  const std::lock_guard lock(mutex_);
  return recorded_;
}
uint64_t Event::record() {
  const std::lock_guard lock(mutex_);
  return ++recorded_;
}
void Event::reach(uint64_t generation) {
  const std::lock_guard lock(mutex_);
  if (generation > reached_) reached_ = generation;
  changed_.notify_all();
}
bool Event::reached(uint64_t generation) const {
  const std::lock_guard lock(mutex_);
  return reached_ >= generation;
}
void Event::wait(uint64_t generation) const {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return reached_ >= generation; });
}

Result<std::shared_ptr<Stream>> Stream::create(bool internal) {
  std::shared_ptr<Stream> stream(new Stream(internal));
  TUTTI_ASSIGN_OR_RETURN(
      stream->worker_, start_thread("tutti-stream", "a stream's worker thread", [raw = stream.get()] { raw->work(); }));
  return stream;
}

Stream::~Stream() {
  if (!worker_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  worker_.join();
}

void Stream::enqueue(std::function<Status()> task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  changed_.notify_all();
}

Status Stream::synchronize() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return tasks_.empty() && !running_; });
  return std::exchange(first_failure_, Status());
}

bool Stream::idle() const {
  const std::lock_guard lock(mutex_);
  return tasks_.empty() && !running_;
}

void Stream::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return !tasks_.empty() || ending_; });
    if (tasks_.empty()) return;
    const std::function<Status()> task = std::move(tasks_.front());
    tasks_.pop_front();
    running_ = true;
    lock.unlock();
    Status status = task();
    lock.lock();
    running_ = false;
    if (first_failure_.ok()) first_failure_ = std::move(status);
    if (tasks_.empty()) changed_.notify_all();
  }
}

}  // namespace tutti
