// The floor under reading recordings: finds the frames of every file and checks their checksums,
// and does nothing with them.
//
//   bench_recording_floor FOLDER [THREADS]
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "recording/frame.h"

namespace {

constexpr std::size_t chunk = 1 << 20;

struct Walked {
  std::uint64_t frames = 0, bytes = 0;
};

Walked walk(const std::filesystem::path& path, std::string& buffer) {
  Walked walked;
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  std::size_t kept = 0;
  for (;;) {
    buffer.resize(std::max(buffer.size(), kept + chunk));
    const ssize_t got = ::read(file, buffer.data() + kept, chunk);
    if (got <= 0) break;
    const std::string_view bytes(buffer.data(), kept + static_cast<std::size_t>(got));
    std::size_t done = 0;
    for (;;) {
      const auto frame = cw::recording::read_frame(bytes.substr(done));
      if (frame.status != cw::recording::Frame::Status::whole) break;
      done += frame.size;
      ++walked.frames;
    }
    walked.bytes += done;
    kept = bytes.size() - done;
    std::copy(bytes.begin() + static_cast<std::ptrdiff_t>(done), bytes.end(), buffer.begin());
  }
  ::close(file);
  return walked;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return std::fputs("usage: bench_recording_floor FOLDER [THREADS]\n", stderr), 2;
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1]))
    if (entry.path().extension() == ".cbor") paths.push_back(entry.path());

  std::atomic<std::size_t> next = 0;
  std::atomic<std::uint64_t> frames = 0, bytes = 0;
  const auto work = [&] {
    std::string buffer;
    for (std::size_t i = next++; i < paths.size(); i = next++) {
      const Walked walked = walk(paths[i], buffer);
      frames += walked.frames;
      bytes += walked.bytes;
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < (argc > 2 ? std::atoi(argv[2]) : 1); ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  std::printf("%zu files, %llu frames, %llu bytes\n", paths.size(),
              static_cast<unsigned long long>(frames), static_cast<unsigned long long>(bytes));
}
