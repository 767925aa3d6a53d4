#include "capture/level10/pickle.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <variant>

namespace cw::level10 {
namespace {

struct Item;
using ItemPtr = std::shared_ptr<const Item>;
using Items = std::vector<ItemPtr>;

struct Mark {};
struct Global {
  std::string name;
};  ///< "torch._utils _rebuild_tensor_v2"
struct Storage {
  std::string file;
  std::optional<DType> dtype;
};
struct OrderedDict {};
struct Dict {
  std::vector<std::pair<std::string, PickledTensor>> tensors;
};

struct Item {
  std::variant<std::monostate, bool, std::int64_t, std::string, Mark, Global, Storage, OrderedDict,
               PickledTensor, Items, std::shared_ptr<Dict>>
      data;
  int depth = 0;  ///< of nested tuples
};

constexpr std::size_t max_items = 1 << 20;
constexpr std::size_t max_axes = 64;
constexpr int max_tuple_depth = 16;  // freeing nested tuples is recursive

std::optional<DType> storage_dtype(std::string_view name) {
  static const std::map<std::string_view, DType> types{
      {"torch DoubleStorage", DType::float64},
      {"torch FloatStorage", DType::float32},
      {"torch HalfStorage", DType::float16},
      {"torch BFloat16Storage", DType::bfloat16},
      {"torch LongStorage", DType::int64},
      {"torch IntStorage", DType::int32},
      {"torch ShortStorage", DType::int16},
      {"torch CharStorage", DType::int8},
      {"torch ByteStorage", DType::uint8},
      {"torch BoolStorage", DType::boolean},
      {"torch ComplexFloatStorage", DType::complex64},
  };
  const auto found = types.find(name);
  return found == types.end() ? std::nullopt : std::optional(found->second);
}

bool is_allowed_global(std::string_view name) {
  if (name == "torch._utils _rebuild_tensor_v2" || name == "torch._utils _rebuild_tensor_v3" ||
      name == "torch._utils _rebuild_parameter" || name == "collections OrderedDict" ||
      name == "torch.storage UntypedStorage" || storage_dtype(name))
    return true;
  return name.starts_with("torch ") &&
         dtype_from_torch(name.substr(6)).has_value();  // torch.float8_e4m3fn
}

template <typename... Args>
tl::unexpected<Error> malformed_pickle(fmt::format_string<Args...> format, Args&&... args) {
  return fail("pickle_malformed", format, std::forward<Args>(args)...);
}

class Machine {
 public:
  explicit Machine(std::string_view program) : rest_(program) {}

  Result<std::vector<PickledTensor>> run() {
    for (;;) {
      CW_TRY(const std::string_view opcode, take(1));
      if (opcode[0] == '.') break;
      CW_CHECK(step(opcode[0]));
      if (stack_.size() > max_items)
        return malformed_pickle("the stack grows past {} items", max_items);
    }
    CW_TRY(const auto dict, pop_as<std::shared_ptr<Dict>>("a dict at the end"));
    std::vector<PickledTensor> tensors;
    for (const auto& [name, tensor] : (*dict)->tensors) {
      tensors.push_back(tensor);
      tensors.back().name = name;
    }
    return tensors;
  }

 private:
  enum class Sign { none, twos_complement };

  Result<void> step(char opcode) {
    switch (opcode) {
      case '\x80':
        return protocol();
      case '\x95':
        return take(8).map([](auto) {});  // FRAME
      case '}':
        return push({std::make_shared<Dict>()});  // EMPTY_DICT
      case ')':
        return push({Items{}});  // EMPTY_TUPLE
      case '(':
        return push({Mark{}});  // MARK
      case 'N':
        return push({});  // NONE
      case '\x88':
        return push({true});  // NEWTRUE
      case '\x89':
        return push({false});  // NEWFALSE
      case 'K':
        return integer(1, Sign::none);  // BININT1
      case 'M':
        return integer(2, Sign::none);  // BININT2
      case 'J':
        return integer(4, Sign::twos_complement);  // BININT
      case '\x8a':
        return long_integer();  // LONG1
      case 'X':
        return text(4);  // BINUNICODE
      case '\x8c':
        return text(1);  // SHORT_BINUNICODE
      case 'q':
        return memoize_at(1);  // BINPUT
      case 'r':
        return memoize_at(4);  // LONG_BINPUT
      case '\x94':
        return memoize(memo_.size());  // MEMOIZE
      case 'h':
        return recall(1);  // BINGET
      case 'j':
        return recall(4);  // LONG_BINGET
      case 'c':
        return global();  // GLOBAL
      case '\x93':
        return stack_global();  // STACK_GLOBAL
      case '\x85':
        return tuple_of(1);  // TUPLE1
      case '\x86':
        return tuple_of(2);  // TUPLE2
      case '\x87':
        return tuple_of(3);  // TUPLE3
      case 't':
        return tuple();  // TUPLE
      case 'Q':
        return persistent_id();  // BINPERSID
      case 'R':
        return reduce();  // REDUCE
      case 's':
        return set_item();  // SETITEM
      case 'u':
        return set_items();  // SETITEMS
      default:
        return fail("pickle_refused", "opcode 0x{:02x} does not belong in a file of tensors",
                    static_cast<unsigned char>(opcode));
    }
  }

  Result<std::string_view> take(std::size_t size) {
    if (rest_.size() < size) return malformed_pickle("it ends in the middle of an opcode");
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  Result<std::uint64_t> take_unsigned(std::size_t size) {
    CW_TRY(const std::string_view bytes, take(size));
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data(), size);
    return value;
  }

  Result<void> push(Item item) {
    stack_.push_back(std::make_shared<const Item>(std::move(item)));
    return {};
  }

  Result<ItemPtr> pop() {
    if (stack_.empty()) return malformed_pickle("an opcode finds the stack empty");
    ItemPtr item = stack_.back();
    stack_.pop_back();
    return item;
  }

  /// The value shares the item's lifetime.
  template <typename T>
  static Result<std::shared_ptr<const T>> as(const ItemPtr& item, std::string_view wanted) {
    if (const T* value = std::get_if<T>(&item->data)) return std::shared_ptr<const T>(item, value);
    return malformed_pickle("expected {}", wanted);
  }

  template <typename T>
  Result<std::shared_ptr<const T>> pop_as(std::string_view wanted) {
    CW_TRY(const ItemPtr item, pop());
    return as<T>(item, wanted);
  }

  Result<Items> pop_to_mark() {
    Items items;
    for (;;) {
      CW_TRY(ItemPtr item, pop());
      if (std::holds_alternative<Mark>(item->data)) break;
      items.push_back(std::move(item));
    }
    std::ranges::reverse(items);
    return items;
  }

  Result<void> protocol() {
    CW_TRY(const std::uint64_t version, take_unsigned(1));
    if (version < 2 || version > 5)
      return malformed_pickle("pickle protocol {} is not supported", version);
    return {};
  }

  Result<void> integer(std::size_t size, Sign sign) {
    CW_TRY(const std::uint64_t value, take_unsigned(size));
    return push({sign == Sign::twos_complement
                     ? static_cast<std::int64_t>(static_cast<std::int32_t>(value))
                     : static_cast<std::int64_t>(value)});
  }

  Result<void> long_integer() {
    CW_TRY(const std::uint64_t size, take_unsigned(1));
    if (size > 8) return malformed_pickle("an integer has {} bytes", size);
    CW_TRY(std::uint64_t value, take_unsigned(size));
    if (size > 0 && size < 8 && (value >> (8 * size - 1)) != 0)
      value |= ~std::uint64_t{0} << (8 * size);
    return push({static_cast<std::int64_t>(value)});
  }

  Result<void> text(std::size_t length_size) {
    CW_TRY(const std::uint64_t size, take_unsigned(length_size));
    CW_TRY(const std::string_view bytes, take(size));
    return push({std::string(bytes)});
  }

  Result<void> memoize(std::uint64_t slot) {
    if (stack_.empty()) return malformed_pickle("an opcode finds the stack empty");
    if (memo_.size() >= max_items)
      return malformed_pickle("the memo grows past {} items", max_items);
    memo_[slot] = stack_.back();
    return {};
  }

  Result<void> memoize_at(std::size_t slot_size) {
    CW_TRY(const std::uint64_t slot, take_unsigned(slot_size));
    return memoize(slot);
  }

  Result<void> recall(std::size_t slot_size) {
    CW_TRY(const std::uint64_t slot, take_unsigned(slot_size));
    const auto found = memo_.find(slot);
    if (found == memo_.end()) return malformed_pickle("memo slot {} is empty", slot);
    stack_.push_back(found->second);
    return {};
  }

  Result<void> push_global(std::string name) {
    if (!is_allowed_global(name))
      return fail("pickle_refused", "the global '{}' does not belong in a file of tensors", name);
    return push({Global{std::move(name)}});
  }

  Result<void> global() {
    std::string name;
    for (const char separator : {' ', '\0'}) {
      const std::size_t end = rest_.find('\n');
      if (end == std::string_view::npos)
        return malformed_pickle("it ends in the middle of an opcode");
      name += rest_.substr(0, end);
      if (separator != '\0') name += separator;
      rest_.remove_prefix(end + 1);
    }
    return push_global(std::move(name));
  }

  Result<void> stack_global() {
    CW_TRY(const auto name, pop_as<std::string>("a global's name"));
    CW_TRY(const auto module, pop_as<std::string>("a global's module"));
    return push_global(*module + " " + *name);
  }

  Result<void> tuple_of(std::size_t size) {
    if (stack_.size() < size) return malformed_pickle("an opcode finds the stack empty");
    Items items(stack_.end() - static_cast<std::ptrdiff_t>(size), stack_.end());
    stack_.resize(stack_.size() - size);
    return push_tuple(std::move(items));
  }

  Result<void> tuple() {
    CW_TRY(Items items, pop_to_mark());
    return push_tuple(std::move(items));
  }

  Result<void> push_tuple(Items items) {
    int depth = 1;
    for (const ItemPtr& item : items) depth = std::max(depth, item->depth + 1);
    if (depth > max_tuple_depth) return malformed_pickle("tuples are nested {} deep", depth);
    tuple_items_ += items.size();
    if (tuple_items_ > max_items)
      return malformed_pickle("its tuples have more than {} items", max_items);
    return push({std::move(items), depth});
  }

  // ("storage", storage type, file, device, element count)
  Result<void> persistent_id() {
    CW_TRY(const auto id, pop_as<Items>("a storage's tuple"));
    if (id->size() < 3) return malformed_pickle("a storage's tuple has {} items", id->size());
    CW_TRY(const auto kind, as<std::string>((*id)[0], "a storage's kind"));
    CW_TRY(const auto type, as<Global>((*id)[1], "a storage's type"));
    CW_TRY(const auto file, as<std::string>((*id)[2], "a storage's file"));
    if (*kind != "storage") return malformed_pickle("'{}' is not a storage", *kind);
    return push({Storage{*file, storage_dtype(type->name)}});
  }

  Result<void> reduce() {
    CW_TRY(const auto arguments, pop_as<Items>("a call's arguments"));
    CW_TRY(const auto function, pop_as<Global>("a call's function"));
    const std::string& name = function->name;
    if (name == "collections OrderedDict" && arguments->empty()) return push({OrderedDict{}});
    if (name == "torch._utils _rebuild_parameter" &&
        !arguments->empty()) {  // (tensor, requires_grad, hooks)
      CW_TRY(const auto data, as<PickledTensor>(arguments->front(), "a parameter's tensor"));
      return push({*data});
    }
    if (!name.starts_with("torch._utils _rebuild_tensor"))
      return fail("pickle_refused", "a call of '{}' does not belong in a file of tensors", name);
    CW_TRY(auto tensor, rebuild(*arguments, name.ends_with("_v3")));
    return push({std::move(tensor)});
  }

  // v2: (storage, offset, size, stride, requires_grad, hooks[, metadata]); v3 has a dtype after the
  // hooks.
  static Result<PickledTensor> rebuild(const Items& arguments, bool has_dtype) {
    if (arguments.size() < (has_dtype ? 7u : 6u))
      return malformed_pickle("a tensor has {} arguments", arguments.size());

    // _rebuild_tensor_v2(storage, offset, shape, stride, …)
    CW_TRY(const auto storage, as<Storage>(arguments[0], "a tensor's storage"));
    CW_TRY(const auto offset, as<std::int64_t>(arguments[1], "a tensor's storage offset"));
    PickledTensor tensor{.name = {},
                         .dtype = DType::uint8,
                         .shape = {},
                         .stride = {},
                         .storage_offset = static_cast<std::uint64_t>(*offset),
                         .storage = storage->file};
    CW_TRY(tensor.shape, extents(arguments[2]));
    CW_TRY(tensor.stride, extents(arguments[3]));

    // Type and shape must form a valid tensor.
    std::optional<DType> dtype = storage->dtype;
    if (has_dtype) {
      CW_TRY(const auto name, as<Global>(arguments[6], "a tensor's dtype"));
      dtype = dtype_from_torch(std::string_view(name->name).substr(name->name.find(' ') + 1));
    }
    if (!dtype || *offset < 0 || tensor.shape.size() != tensor.stride.size() ||
        !element_count(tensor.shape))
      return malformed_pickle("a tensor's dtype, offset, shape and stride do not make one");
    tensor.dtype = *dtype;
    return tensor;
  }

  static Result<Shape> extents(const ItemPtr& item) {
    CW_TRY(const auto items, as<Items>(item, "a shape"));
    Shape shape;
    if (items->size() > max_axes)
      return malformed_pickle("a shape or stride has {} axes", items->size());
    for (const ItemPtr& extent : *items) {
      CW_TRY(const auto value, as<std::int64_t>(extent, "an extent"));
      if (*value < 0) return malformed_pickle("a shape or stride has the extent {}", *value);
      shape.push_back(*value);
    }
    return shape;
  }

  Result<void> set(const Items& pairs) {
    if (pairs.size() % 2 != 0) return malformed_pickle("a dict has a key without a value");
    if (stack_.empty()) return malformed_pickle("an opcode finds the stack empty");
    CW_TRY(const auto dict, as<std::shared_ptr<Dict>>(stack_.back(), "a dict"));
    for (std::size_t i = 0; i < pairs.size(); i += 2) {
      CW_TRY(const auto name, as<std::string>(pairs[i], "a string as the key"));
      CW_TRY(const auto tensor, as<PickledTensor>(pairs[i + 1], "a tensor as the value"));
      if ((*dict)->tensors.size() >= max_items / 64)
        return malformed_pickle("the dict has too many tensors");
      (*dict)->tensors.emplace_back(*name, *tensor);
    }
    return {};
  }

  Result<void> set_item() {
    CW_TRY(ItemPtr value, pop());
    CW_TRY(ItemPtr key, pop());
    return set({std::move(key), std::move(value)});
  }

  Result<void> set_items() {
    CW_TRY(const Items pairs, pop_to_mark());
    return set(pairs);
  }

  std::string_view rest_;
  Items stack_;
  std::map<std::uint64_t, ItemPtr> memo_;
  std::size_t tuple_items_ = 0;
};

}  // namespace

Result<std::vector<PickledTensor>> parse_pickled_tensors(std::string_view pickle) {
  return Machine(pickle).run();
}

}  // namespace cw::level10
