#include "workload/workload.h"

#include "base/json.h"
#include "tensor/safetensors.h"

namespace cw {
namespace {

// Everything that identifies a workload, one line each.
std::string identity(const Definition& definition, const std::vector<std::int64_t>& axes,
                     const std::vector<IdentityInput>& inputs) {
  std::string text = "workload\n" + definition.name + "\n";
  for (std::size_t i = 0; i < definition.axes.size(); ++i)
    if (!definition.axes[i].constant)
      text += fmt::format("{}={}\n", definition.axes[i].name, axes[i]);
  for (std::size_t i = 0; i < definition.inputs.size(); ++i) {
    const std::string& name = definition.inputs[i].name;
    if (const auto* scalar = std::get_if<Operand>(&inputs[i]))
      text += fmt::format("{} {}\n", name, describe(*scalar));
    if (const auto* stored = std::get_if<TensorDigest>(&inputs[i]))
      text += fmt::format("{} {} {} {}\n", name, trace_name(stored->dtype),
                          to_string(stored->shape), stored->digest);
  }
  return text;
}

template <typename Digest>
std::string identity(const Workload& workload, Digest digest) {
  std::vector<IdentityInput> inputs;
  for (const WorkloadInput& input : workload.inputs) {
    if (const auto* scalar = std::get_if<Operand>(&input))
      inputs.emplace_back(*scalar);
    else if (const auto* stored = std::get_if<StoredInput>(&input))
      inputs.emplace_back(
          TensorDigest{(*stored)->dtype, (*stored)->shape, digest((*stored)->bytes)});
    else
      inputs.emplace_back();
  }
  return identity(*workload.definition, workload.axes, inputs);
}

Json to_json(const Operand& scalar) {
  if (const auto* flag = std::get_if<bool>(&scalar)) return *flag;
  if (const auto* integer = std::get_if<std::int64_t>(&scalar)) return *integer;
  return std::get<double>(scalar);
}

}  // namespace

Hash128 content_key(const Workload& workload) {
  return xxh3(identity(workload, [](std::string_view bytes) {
    const Hash128 hash = xxh3(bytes);
    return fmt::format("{:016x}{:016x}", hash.high, hash.low);
  }));
}

std::string workload_id(const Workload& workload) {
  return uuid_v5(identity(workload, sha256_hex));
}

std::string workload_id(const Definition& definition, const std::vector<std::int64_t>& axes,
                        const std::vector<IdentityInput>& inputs) {
  return uuid_v5(identity(definition, axes, inputs));
}

std::string blob_path(const Workload& workload, const std::string& id) {
  for (const WorkloadInput& input : workload.inputs)
    if (std::holds_alternative<StoredInput>(input))
      return fmt::format("blob/workloads/{0}/{1}/{1}_{2}.safetensors", workload.definition->op_type,
                         workload.definition->name, id);
  return {};
}

std::string blob_content(const Workload& workload) {
  std::vector<std::pair<std::string, const DenseTensor*>> tensors;
  for (std::size_t i = 0; i < workload.inputs.size(); ++i)
    if (const auto* stored = std::get_if<StoredInput>(&workload.inputs[i]))
      tensors.emplace_back(workload.definition->inputs[i].name, stored->get());
  return write_safetensors(tensors);
}

std::string workload_line(const Workload& workload, const std::string& id) {
  const Definition& definition = *workload.definition;
  const std::string path = blob_path(workload, id);

  Json axes = Json::object(), inputs = Json::object();
  for (std::size_t i = 0; i < definition.axes.size(); ++i)
    if (!definition.axes[i].constant) axes[definition.axes[i].name] = workload.axes[i];

  for (std::size_t i = 0; i < definition.inputs.size(); ++i) {
    const std::string& name = definition.inputs[i].name;
    if (std::holds_alternative<RandomInput>(workload.inputs[i]))
      inputs[name] = {{"type", "random"}};
    if (const auto* scalar = std::get_if<Operand>(&workload.inputs[i]))
      inputs[name] = {{"type", "scalar"}, {"value", to_json(*scalar)}};
    if (std::holds_alternative<StoredInput>(workload.inputs[i]))
      inputs[name] = {{"type", "safetensors"}, {"path", "./" + path}, {"tensor_key", name}};
  }

  const Json line = {
      {"definition", definition.name},
      {"solution", nullptr},
      {"workload", {{"uuid", id}, {"axes", std::move(axes)}, {"inputs", std::move(inputs)}}},
      {"evaluation", nullptr}};
  return dump(line);
}

}  // namespace cw
