#include <dlfcn.h>

#include "device.h"

// The few declarations needed from cuda.h, so that the build needs no CUDA. The ABI is that of CUDA
// 12 and 13 (docs.nvidia.com/cuda/cuda-driver-api).
namespace {

using Address = unsigned long long;

struct Copy2D {  // CUDA_MEMCPY2D
  std::size_t source_x, source_y;
  int source_kind;
  const void* source_host;
  Address source_device;
  void* source_array;
  std::size_t source_pitch;
  std::size_t x, y;
  int kind;
  void* host;
  Address device;
  void* array;
  std::size_t pitch;
  std::size_t width, height;
};
constexpr int host_memory = 1, device_memory = 2;  // CUmemorytype
constexpr unsigned portable = 1, mapped = 2;       // CU_MEMHOSTREGISTER_*
constexpr int not_capturing = 0;                   // CU_STREAM_CAPTURE_STATUS_NONE

struct Driver {
  int (*register_memory)(void*, std::size_t, unsigned);
  int (*device_address)(Address*, void*, unsigned);
  int (*capture_status)(void*, int*);
  int (*copy)(void*, Address, std::size_t, void*);
  int (*copy_rows)(const Copy2D*, void*);
  int (*write_value)(void*, Address, std::uint64_t, unsigned);
};

class CudaDriver final : public cw::recorder::Device {
 public:
  explicit CudaDriver(const Driver& driver) : driver_(driver) {}

  bool attach(std::byte* memory, std::size_t size) override {
    Address address = 0;
    if (driver_.register_memory(memory, size, portable | mapped) != 0) return false;
    if (driver_.device_address(&address, memory, 0) != 0) return false;
    offset_ = address - reinterpret_cast<std::uintptr_t>(memory);
    return true;
  }

  bool is_capturing(Stream stream) override {
    int status = not_capturing;
    return driver_.capture_status(stream, &status) != 0 || status != not_capturing;
  }

  bool copy(std::byte* to, const void* from, std::size_t row, std::size_t rows, std::size_t pitch,
            Stream stream) override {
    const auto source = reinterpret_cast<std::uintptr_t>(from);
    if (rows == 1 || pitch == row) return driver_.copy(to, source, row * rows, stream) == 0;
    Copy2D what{};
    what.source_kind = device_memory;
    what.source_device = source;
    what.source_pitch = pitch;
    what.kind = host_memory;
    what.host = to;
    what.pitch = what.width = row;
    what.height = rows;
    return driver_.copy_rows(&what, stream) == 0;
  }

  bool mark(std::uint64_t* to, std::uint64_t value, Stream stream) override {
    return driver_.write_value(stream, reinterpret_cast<std::uintptr_t>(to) + offset_, value, 0) ==
           0;
  }

 private:
  Driver driver_;
  Address offset_ = 0;  ///< from a host address to the device address of the same memory
};

}  // namespace

std::unique_ptr<cw::recorder::Device> cw::recorder::loaded_cuda_driver() {
  void* library = ::dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return nullptr;
  bool is_whole = true;
  const auto find = [&](auto& function, const char* name) {
    function =
        reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(library, name));
    is_whole = is_whole && function != nullptr;
  };
  Driver driver;
  find(driver.register_memory, "cuMemHostRegister_v2");
  find(driver.device_address, "cuMemHostGetDevicePointer_v2");
  find(driver.capture_status, "cuStreamIsCapturing");
  find(driver.copy, "cuMemcpyDtoHAsync_v2");
  find(driver.copy_rows, "cuMemcpy2DAsync_v2");
  find(driver.write_value, "cuStreamWriteValue64_v2");
  return is_whole ? std::make_unique<CudaDriver>(driver) : nullptr;
}
