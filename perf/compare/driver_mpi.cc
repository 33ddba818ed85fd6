// SPDX-License-Identifier: Apache-2.0
//
// The MPI driver; compiled once with Open MPI and once with MPICH, started by their mpirun.
#include <mpi.h>

#include <fcntl.h>

#include "perf/compare/harness.h"

namespace tutti::compare {
namespace {

class MpiPeer : public OrdinaryPeer {
 public:
  std::string version() {
    char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    MPI_Get_library_version(text, &length);
    const std::string whole(text, length);
    return whole.substr(0, std::min(whole.find_first_of("\n,"), whole.find("Version Date")));
  }

  template <class Run>
  std::string with_operation(Problem& p, const std::string&, float* send, float* recv, Run& run) {
    const int whole = static_cast<int>(p.bytes / sizeof(float)), chunk = static_cast<int>(p.chunk);
    const MPI_Comm world = MPI_COMM_WORLD;
    switch (p.collective) {
      case Collective::AllReduce:
        return run([=] { return MPI_Allreduce(send, recv, whole, MPI_FLOAT, MPI_SUM, world); });
      case Collective::AllGather:
        return run([=] { return MPI_Allgather(send, chunk, MPI_FLOAT, recv, chunk, MPI_FLOAT, world); });
      case Collective::ReduceScatter:
        return run([=] { return MPI_Reduce_scatter_block(send, recv, chunk, MPI_FLOAT, MPI_SUM, world); });
      case Collective::Broadcast:
        return run([=] { return MPI_Bcast(recv, whole, MPI_FLOAT, 0, world); });
      case Collective::AllToAll:
        return run([=] { return MPI_Alltoall(send, chunk, MPI_FLOAT, recv, chunk, MPI_FLOAT, world); });
      case Collective::Reduce:
        return run([=] { return MPI_Reduce(send, recv, whole, MPI_FLOAT, MPI_SUM, 0, world); });
      case Collective::Gather:
        return run([=] { return MPI_Gather(send, chunk, MPI_FLOAT, recv, chunk, MPI_FLOAT, 0, world); });
      case Collective::Scatter:
        return run([=] { return MPI_Scatter(send, chunk, MPI_FLOAT, recv, chunk, MPI_FLOAT, 0, world); });
      case Collective::SendRecv:
        return run([=, next = p.next(), previous = p.previous()] {
          return MPI_Sendrecv(send, whole, MPI_FLOAT, next, 0, recv, whole, MPI_FLOAT, previous, 0, world,
                              MPI_STATUS_IGNORE);
        });
    }
    return "unknown collective";
  }
};

// The launcher tells a process its rank on the host before MPI_Init, which is when threads and memory get their place.
int rank_from_launcher() {
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "PMI_RANK"})
    if (const char* value = std::getenv(name)) return std::atoi(value);
  return 0;
}

// One host only: rank 0 makes a file in shared memory, everyone maps it, then it has no name any more.
ControlBlock* map_control(const Options& options, int rank) {
  char path[256] = {};
  int fd = -1;
  if (rank == 0) {
    std::snprintf(path, sizeof path, "%s/compare-XXXXXX", options.scratch.c_str());
    fd = mkstemp(path);
    if (fd < 0 || ftruncate(fd, sizeof(ControlBlock)) != 0) {
      std::perror(path);
      MPI_Abort(MPI_COMM_WORLD, 1);
    }
  }
  MPI_Bcast(path, sizeof path, MPI_CHAR, 0, MPI_COMM_WORLD);
  if (rank != 0) fd = open(path, O_RDWR);
  if (fd < 0) {
    std::perror(path);
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  ControlBlock* block = Control::map_block(fd);
  MPI_Barrier(MPI_COMM_WORLD);
  if (rank == 0) unlink(path);
  close(fd);
  return block;
}

int main_of_rank(int argc, char** argv) {
  const Options options = parse_options(argc, argv);
  die_with_parent();
  cores_before_pinning();
  if (options.pin) pin_evenly(rank_from_launcher());
  MPI_Init(&argc, &argv);
  int ranks = 0, rank = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  Control control(map_control(options, rank), ranks, rank);
  control.set_progress([] {
    int found = 0;
    MPI_Iprobe(MPI_ANY_SOURCE, 1, MPI_COMM_WORLD, &found, MPI_STATUS_IGNORE);
  });
  MpiPeer peer;
  run_cells(peer, control, options);
  MPI_Finalize();
  return 0;
}

}  // namespace
}  // namespace tutti::compare

int main(int argc, char** argv) { return tutti::compare::main_of_rank(argc, argv); }
