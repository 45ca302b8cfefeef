"""Writes values.gguf with the gguf package: every type of value Fathom writes, several tensor types.

tests/formats/gguf_writer_test.cpp writes the same with Fathom's writer and compares the bytes.
"""
import pathlib
import numpy
import gguf

here = pathlib.Path(__file__).parent
w = gguf.GGUFWriter(here / "values.gguf", "llama")  # writes general.architecture first
w.add_custom_alignment(64)
w.add_uint32("an.u32", 4000000000)
w.add_uint64("an.u64", 1 << 40)
w.add_int32("an.i32", -70000)
w.add_float32("an.f32", 0.1)
w.add_bool("a.bool", True)
w.add_string("a.string", "héllo\n")
w.add_array("some.strings", ["a", "", "ünï"])
w.add_array("some.i32s", [1, -2, 3])
w.add_array("some.f32s", [0.5, -0.25])
f32 = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
w.add_tensor("matrix", f32)
w.add_tensor("vector.f16", numpy.array([1, -2, 65504], dtype=numpy.float16))
q8 = (numpy.arange(64, dtype=numpy.float32) - 32).reshape(2, 32)
w.add_tensor("quantised", gguf.quants.quantize(q8, gguf.GGMLQuantizationType.Q8_0),
             raw_dtype=gguf.GGMLQuantizationType.Q8_0)
w.add_tensor("stack", numpy.arange(24, dtype=numpy.float32).reshape(2, 3, 4))
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
print("gguf", __import__("importlib.metadata").metadata.version("gguf"))
