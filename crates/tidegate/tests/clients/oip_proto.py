"""Talks to a server with the code that protoc makes of proto/open_inference.proto, and with bare gRPC. Started by
tests/it/oip.rs.

    python oip_proto.py HOST:PORT PROTO_FOLDER

The server has `linear` (y = x W + b). Any failed check ends this with an error.
"""

import importlib
import sys
import tempfile

import grpc
from grpc_tools import protoc


def generated(folder):
    out = tempfile.mkdtemp()
    arguments = [f"-I{folder}", f"--python_out={out}", f"--grpc_python_out={out}", "open_inference.proto"]
    assert protoc.main(["protoc", *arguments]) == 0
    sys.path.insert(0, out)
    return importlib.import_module("open_inference_pb2"), importlib.import_module("open_inference_pb2_grpc")


def code_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("was not refused")


def main(address, folder):
    messages, services = generated(folder)
    channel = grpc.insecure_channel(address)
    service = services.GRPCInferenceServiceStub(channel)
    assert service.ServerReady(messages.ServerReadyRequest()).ready
    metadata = service.ModelMetadata(messages.ModelMetadataRequest(name="linear"))
    assert list(metadata.inputs[0].shape) == [-1, 3], metadata
    config = service.ModelConfig(messages.ModelConfigRequest(name="linear")).config
    assert config.input[0].data_type == messages.TYPE_FP32, config

    # Typed contents in: typed contents out.
    asked = messages.ModelInferRequest(model_name="linear")
    asked.inputs.add(name="x", datatype="FP32", shape=[1, 3]).contents.fp32_contents.extend([1, 2, 3])
    answer = service.ModelInfer(asked)
    assert list(answer.outputs[0].contents.fp32_contents) == [22.5, 27.5], answer
    assert answer.id and not answer.raw_output_contents, answer
    answers = list(service.ModelStreamInfer(iter([asked, messages.ModelInferRequest(), asked])))
    assert [bool(one.error_message) for one in answers] == [False, True, False], answers

    asked.inputs[0].shape[0] = 2
    code, details = code_of(lambda: service.ModelInfer(asked))
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "inputs[0].contents" in details, details

    # Without messages: health, garbage, and a method that is not there.
    def raw(method):
        return channel.unary_unary(method)

    assert raw("/grpc.health.v1.Health/Check")(b"") == b"\x08\x01"
    infer = "/inference.GRPCInferenceService/ModelInfer"
    for garbage in (b"garbage", b"\xff" * 100, b"\x2a\xff\xff\xff\xff\x0f"):
        code, details = code_of(lambda: raw(infer)(garbage))
        assert code == grpc.StatusCode.INVALID_ARGUMENT, details
    code, details = code_of(lambda: raw("/inference.GRPCInferenceService/NoSuchMethod")(b""))
    assert code == grpc.StatusCode.UNIMPLEMENTED, details


if __name__ == "__main__":
    main(*sys.argv[1:])
    print("proto", flush=True)
