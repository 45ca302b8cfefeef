#include "formats/convert.h"

#include "base/error.h"
#include "formats/convert_parts.h"
#include "formats/hf_checkpoint.h"
#include "formats/quantize_mix.h"

namespace fathom {

ConvertReport convert_to_gguf(const std::filesystem::path& folder,
                              const std::filesystem::path& output, const ConvertOptions& options) {
  const QuantizeMix mix(options.type, options.pure);
  require(std::filesystem::is_directory(folder), ErrorCode::InvalidArgument,
          "{}: is not a folder; convert reads a Hugging Face model folder with config.json",
          folder.string());
  const HfCheckpoint source(folder);
  GgufMetadata metadata;
  const ConvertModel model = convert_config(source, options, metadata);
  metadata.u32("general.file_type", mix.file_type());
  if (info(mix.base()).quantised) metadata.u32("general.quantization_version", 2);

  ConvertReport report;
  report.architecture = model.architecture;
  convert_tokenizer(folder, source, model, options, metadata, report.notes);
  std::vector<SourcedJob> sourced = convert_tensors(source, model, options, report.notes);

  MixModel mix_model;
  mix_model.layers = model.layers;
  mix_model.experts = model.experts;
  mix_model.has_output = !model.tied;
  if (model.kv_heads > 0) mix_model.heads_per_kv_head = model.heads / model.kv_heads;
  std::vector<TensorJob> jobs;
  std::vector<TensorPlan> plans;
  for (SourcedJob& one : sourced) {
    TensorPlan& plan = one.job.plan;
    MixChoice choice = mix.choose(plan.name, plan.shape, mix_model);
    plan.dtype = choice.dtype;
    const std::uint64_t bytes = tensor_bytes(plan.dtype, plan.shape);
    report.tensors.push_back(
        {plan.name, one.from, plan.dtype, plan.shape, bytes, std::move(choice.fallback)});
    report.bytes_after += bytes;
    plans.push_back(plan);
    jobs.push_back(std::move(one.job));
  }
  report.bytes_before = source.weight_bytes();

  ThreadPool pool(options.threads);
  GgufWriter writer(output, metadata, std::move(plans));
  {
    Progress progress(options.progress, "converting", report.bytes_after);
    write_tensors(writer, jobs, pool, progress);
  }
  source.verify_unchanged();
  writer.commit();
  return report;
}

}  // namespace fathom
