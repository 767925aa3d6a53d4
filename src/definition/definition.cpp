#include "definition/definition.h"

#include <algorithm>
#include <cctype>

#include <fcntl.h>

#include "base/file.h"
#include "base/json.h"

namespace cw {
namespace {

constexpr std::uint64_t max_definition = 16 << 20;

bool is_path_component(std::string_view name) {
  return name.size() <= 128 && !name.starts_with('.') &&
         std::ranges::all_of(name, [](unsigned char c) {
           return std::isalnum(c) || c == '.' || c == '_' || c == '+' || c == '-';
         });
}

// Reads fields of one JSON object and says where anything is wrong.
class Reader {
 public:
  explicit Reader(std::string_view where) : where_(where) {}

  template <typename... Args>
  tl::unexpected<Error> error(std::string_view field, fmt::format_string<Args...> format,
                              Args&&... args) const {
    return fail("definition_invalid", "{}: {}: {}", where_, field,
                fmt::format(format, std::forward<Args>(args)...));
  }

  Result<const Json*> member(const Json& object, const std::string& field, Json::value_t type,
                             std::string_view type_name) const {
    const auto found = object.find(field);
    if (found == object.end()) return error(field, "missing; expected {}", type_name);
    if (found->type() != type) return error(field, "expected {}, got {}", type_name, brief(*found));
    return &*found;
  }

  Result<std::string> text(const Json& object, const std::string& field) const {
    CW_TRY(const Json* value, member(object, field, Json::value_t::string, "a string"));
    if (value->get_ref<const std::string&>().empty())
      return error(field, "expected a non-empty string");
    return value->get<std::string>();
  }

  Result<std::vector<std::string>> texts(const Json& object, const std::string& field) const {
    std::vector<std::string> result;
    const auto found = object.find(field);
    if (found == object.end() || found->is_null()) return result;
    if (!found->is_array())
      return error(field, "expected a list of strings, got {}", brief(*found));
    for (const Json& item : *found) {
      if (!item.is_string()) return error(field, "expected a list of strings, got {}", brief(item));
      result.push_back(item.get<std::string>());
    }
    return result;
  }

  Result<std::vector<Axis>> axes(const Json& root) const {
    CW_TRY(const Json* object, member(root, "axes", Json::value_t::object, "an object of axes"));
    std::vector<Axis> result;
    for (const auto& [name, axis] : object->items()) {
      const std::string field = "axes." + name;
      if (!axis.is_object()) return error(field, "expected an object, got {}", brief(axis));
      const std::string type = axis.contains("type") ? brief(axis.at("type")) : "\"var\"";
      if (type == "\"var\"") {
        result.push_back({name, std::nullopt});
        continue;
      }
      if (type != "\"const\"")
        return error(field + ".type", "expected \"const\" or \"var\", got {}", type);
      const auto value = axis.find("value");
      if (value == axis.end() || !value->is_number_unsigned() ||
          value->get<std::uint64_t>() > INT64_MAX)
        return error(field + ".value", "expected an integer of 0 or more");
      result.push_back({name, value->get<std::int64_t>()});
    }
    return result;
  }

  Result<std::vector<TensorSpec>> tensors(const Json& root, const std::string& list,
                                          const std::vector<Axis>& axes) const {
    CW_TRY(const Json* object, member(root, list, Json::value_t::object, "an object of tensors"));
    std::vector<TensorSpec> result;
    for (const auto& [name, spec] : object->items()) {
      CW_TRY(TensorSpec tensor, this->tensor(list + "." + name, name, spec, axes));
      result.push_back(std::move(tensor));
    }
    return result;
  }

 private:
  Result<TensorSpec> tensor(const std::string& field, const std::string& name, const Json& spec,
                            const std::vector<Axis>& axes) const {
    if (!spec.is_object()) return error(field, "expected an object, got {}", brief(spec));
    if (name.empty()) return error(field, "expected a non-empty name");
    TensorSpec tensor{.name = name, .dtype = DType::float32};

    const auto dtype = spec.find("dtype");
    const auto known = dtype != spec.end() && dtype->is_string()
                           ? dtype_from_trace(dtype->get_ref<const std::string&>())
                           : std::nullopt;
    if (!known)
      return error(field + ".dtype", "expected a dtype such as \"bfloat16\", got {}",
                   dtype == spec.end() ? "nothing" : brief(*dtype));
    tensor.dtype = *known;

    if (const auto optional = spec.find("optional"); optional != spec.end()) {
      if (!optional->is_boolean()) return error(field + ".optional", "expected true or false");
      tensor.optional = optional->get<bool>();
    }

    // A scalar has no shape; a tensor's axes are the definition's.
    const auto shape = spec.find("shape");
    if (shape == spec.end())
      return error(field + ".shape", "missing; expected a list of axes or null");
    tensor.is_scalar = shape->is_null();
    if (tensor.is_scalar) return tensor;
    if (!shape->is_array())
      return error(field + ".shape", "expected a list of axes or null, got {}", brief(*shape));

    for (const Json& axis : *shape) {
      const auto found = std::ranges::find_if(axes, [&axis](const Axis& a) {
        return axis.is_string() && a.name == axis.get_ref<const std::string&>();
      });
      if (found == axes.end())
        return error(field + ".shape", "{} is not among the definition's axes", brief(axis));
      tensor.axes.push_back(static_cast<std::size_t>(found - axes.begin()));
    }
    return tensor;
  }

  std::string_view where_;
};

}  // namespace

const Axis* Definition::axis(std::string_view axis_name) const {
  const auto found = std::ranges::find_if(axes, [&](const Axis& a) { return a.name == axis_name; });
  return found == axes.end() ? nullptr : &*found;
}

const TensorSpec* Definition::input(std::string_view input_name) const {
  const auto found =
      std::ranges::find_if(inputs, [&](const TensorSpec& t) { return t.name == input_name; });
  return found == inputs.end() ? nullptr : &*found;
}

std::vector<std::string_view> Definition::tag_values(std::string_view key) const {
  std::vector<std::string_view> values;
  for (const std::string_view tag : tags)
    if (tag.size() > key.size() && tag.starts_with(key) && tag[key.size()] == ':')
      values.push_back(tag.substr(key.size() + 1));
  return values;
}

std::vector<std::string_view> Definition::apis() const {
  std::vector<std::string_view> found = tag_values("fi_api");
  for (const std::string_view older : tag_values("api")) found.push_back(older);
  for (std::string_view& api : found) {
    // FlashInfer's own trace names the method:
    // "flashinfer.decode.BatchDecodeWithPagedKVCacheWrapper.run".
    const std::size_t last = api.rfind('.');
    const std::string_view owner = api.substr(0, last == api.npos ? 0 : last);
    const std::string_view owner_name = owner.substr(owner.rfind('.') + 1);
    const bool is_method =
        !owner_name.empty() && std::isupper(static_cast<unsigned char>(owner_name[0])) != 0;
    api = is_method ? owner_name : api.substr(last + 1);
  }
  return found;
}

std::string meaning(const Definition& definition) {
  std::string text = definition.op_type + "\n";
  for (const Axis& axis : definition.axes)
    text +=
        fmt::format("{}={}\n", axis.name, axis.constant ? std::to_string(*axis.constant) : "var");
  for (const auto* specs : {&definition.inputs, &definition.outputs})
    for (const TensorSpec& spec : *specs)
      text +=
          fmt::format("{} {} {} {} [{}]\n", specs == &definition.inputs ? "in" : "out", spec.name,
                      trace_name(spec.dtype), spec.is_scalar, fmt::join(spec.axes, ","));
  for (const Expression& constraint : definition.constraints) text += constraint.text() + "\n";
  return text;
}

Result<Definition> parse_definition(std::string_view json, std::string_view where) {
  const Reader reader(where);
  if (json.starts_with(byte_order_mark))
    return reader.error(
        "file", "begins with a byte order mark, which flashinfer-bench does not read; remove it");

  const auto parsed = parse_json(json);
  if (!parsed) return reader.error("file", "not valid JSON");
  const Json& root = *parsed;
  if (!root.is_object()) return reader.error("file", "expected a JSON object");

  // Name and op type name files and folders.
  Definition definition;
  CW_TRY(definition.name, reader.text(root, "name"));
  CW_TRY(definition.op_type, reader.text(root, "op_type"));
  for (const auto& [field, value] :
       {std::pair("name", &definition.name), std::pair("op_type", &definition.op_type)})
    if (!is_path_component(*value))
      return reader.error(
          field,
          "'{}' becomes part of a path: letters, digits and . _ + - are possible, at most 128",
          *value);

  CW_TRY(definition.reference, reader.text(root, "reference"));
  CW_TRY(definition.tags, reader.texts(root, "tags"));
  CW_TRY(definition.axes, reader.axes(root));
  CW_TRY(definition.inputs, reader.tensors(root, "inputs", definition.axes));
  CW_TRY(definition.outputs, reader.tensors(root, "outputs", definition.axes));

  // Outputs are returned alongside the inputs, under distinct names.
  for (const TensorSpec& output : definition.outputs)
    if (definition.input(output.name) != nullptr)
      return reader.error("outputs." + output.name, "an input has the same name");

  CW_TRY(const std::vector<std::string> constraints, reader.texts(root, "constraints"));
  for (const std::string& text : constraints) {
    auto constraint = Expression::parse(text);
    if (!constraint) return reader.error("constraints", "{}", constraint.error().message);
    definition.constraints.push_back(std::move(*constraint));
  }
  return definition;
}

Result<Definition> load_definition(const std::filesystem::path& path) {
  CW_TRY(const std::string json, read_file(AT_FDCWD, path.string(), max_definition));
  return parse_definition(json, path.string());
}

}  // namespace cw
