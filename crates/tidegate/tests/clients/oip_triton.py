"""Talks to a server with NVIDIA's client for Triton: over REST and gRPC, blocking and asyncio. Started by tests/it/oip.rs.

    python oip_triton.py HOST:PORT DATATYPE...

The server has `identity-DATATYPE` for each datatype, `linear` (y = x W + b), and `numbered` (1.0.0 in Production, 2.0.0 in
Staging, each answers with its number). Any failed check ends this with an error.
"""

import asyncio
import queue
import sys

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http
import tritonclient.http.aio as http_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, triton_to_np_dtype

ROWS = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)
EXPECTED = np.array([[22.5, 27.5], [49.5, 63.5]], dtype=np.float32)


def staging():
    """A new one each time: the client adds to it."""
    return {"x-tidegate-environment": "Staging"}


def values(datatype):
    if datatype == "BYTES":
        return np.array([["a", "", "ü"], ["", "x" * 1000, "0"]], dtype=np.object_)
    if datatype == "BOOL":
        return np.array([[True, False, True], [False, False, True]])
    return np.array([[0, 1, 2], [3, 5, 100]], dtype=triton_to_np_dtype(datatype))


def same(actual, expected):
    actual = np.array(actual)
    if expected.dtype == np.object_:
        texts = [text.encode() if isinstance(text, str) else text for text in expected.flatten()]
        assert [text.encode() if isinstance(text, str) else text for text in actual.flatten()] == texts, actual
    else:
        assert actual.dtype == expected.dtype and np.array_equal(actual, expected), (actual, expected)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)


def tensor(kind, name, array, datatype=None, **options):
    tensor = kind.InferInput(name, list(array.shape), datatype or np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array, **options)
    return tensor


def refused(call, *words):
    try:
        call()
    except InferenceServerException as error:
        text = f"{error.status()} {error.message()}"
        assert all(word in text for word in words), text
        return
    raise AssertionError(f"was not refused: {words}")


def management(client, is_grpc):
    """What both blocking clients offer beside inference."""
    as_json = {"as_json": True} if is_grpc else {}
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("linear") and client.is_model_ready("linear", "1.0.0")
    assert not client.is_model_ready("linear", "9.0.0") and not client.is_model_ready("no-such-model")
    server = client.get_server_metadata(**as_json)
    assert server["name"] == "tidegate" and "binary_tensor_data" in server["extensions"], server
    metadata = client.get_model_metadata("linear", **as_json)
    assert metadata["versions"] == ["1.0.0"] and metadata["platform"] == "onnx_onnxv1", metadata
    assert metadata["inputs"][0]["name"] == "x" and metadata["inputs"][0]["datatype"] == "FP32", metadata
    assert [int(size) for size in metadata["inputs"][0]["shape"]] == [-1, 3], metadata
    config = client.get_model_config("linear", **as_json)
    config = config["config"] if is_grpc else config
    assert config["max_batch_size"] > 1 and [int(dim) for dim in config["input"][0]["dims"]] == [3], config
    assert config["input"][0]["data_type"] == "TYPE_FP32", config

    index = client.get_model_repository_index(**as_json)
    index = index["models"] if is_grpc else index
    states = {entry["name"]: entry["state"] for entry in index}
    assert states["linear"] == "READY" and states["undeployed"] == "UNAVAILABLE", index
    client.load_model("linear")
    client.unload_model("undeployed")
    refused(lambda: client.unload_model("linear"), "only a deployment takes away")
    refused(lambda: client.load_model("linear", config='{"name": "linear"}'), "POST /api/v1/models")
    refused(lambda: client.load_model("no-such-model"), "there is no model")

    statistics = client.get_inference_statistics("linear", **as_json)["model_stats"][0]
    assert statistics["version"] == "1.0.0" and int(statistics["inference_count"]) > 0, statistics
    assert int(statistics["inference_stats"]["success"]["ns"]) > 0, statistics
    assert len(client.get_inference_statistics(**as_json)["model_stats"]) > 2

    settings = client.update_trace_settings("linear", {"trace_level": ["TIMESTAMPS"], "trace_rate": "2"}, **as_json)
    settings = settings["settings"] if is_grpc else settings
    assert "TIMESTAMPS" in str(settings["trace_level"]), settings
    settings = client.get_trace_settings(**as_json)
    assert "OFF" in str((settings["settings"] if is_grpc else settings)["trace_level"]), settings
    client.update_trace_settings("linear", {"trace_level": None, "trace_rate": None})
    refused(lambda: client.update_trace_settings(settings={"trace_file": "/tmp/x"}), "trace_file")
    logs = client.get_log_settings(**as_json)
    assert "log_verbose_level" in (logs["settings"] if is_grpc else logs), logs
    refused(lambda: client.update_log_settings({"log_verbose_level": 1}), "log_verbose_level")


def over_rest(address, datatypes):
    client = http.InferenceServerClient(address, concurrency=4)
    for datatype in datatypes:
        model, array = f"identity-{datatype.lower()}", values(datatype)
        for binary in (True, False):
            # The client writes these as bytes only.
            if not binary and datatype in ("FP16", "BF16"):
                continue
            outputs = [http.InferRequestedOutput("y", binary_data=binary)]
            inputs = [tensor(http, "x", array, datatype, binary_data=binary)]
            same(client.infer(model, inputs, outputs=outputs).as_numpy("y"), array)
    x = tensor(http, "x", ROWS)
    result = client.infer("linear", [x], request_id="one request", model_version="1.0.0")
    same(result.as_numpy("y"), EXPECTED)
    answer = result.get_response()
    assert answer["id"] == "one request" and answer["model_version"] == "1.0.0", answer
    for algorithm in ("gzip", "deflate"):
        result = client.infer(
            "linear", [x], request_compression_algorithm=algorithm, response_compression_algorithm=algorithm
        )
        same(result.as_numpy("y"), EXPECTED)
    classes = client.infer("linear", [x], outputs=[http.InferRequestedOutput("y", class_count=1)]).as_numpy("y")
    same(classes, np.array([["27.500000:1"], ["63.500000:1"]], dtype=np.object_))
    zero = tensor(http, "x", np.zeros(1, dtype=np.float32))
    assert client.infer("numbered", [zero]).as_numpy("y")[0] == 1
    assert client.infer("numbered", [zero], headers=staging()).as_numpy("y")[0] == 2
    pending = [client.async_infer("linear", [x]) for _ in range(8)]
    for request in pending:
        same(request.get_result().as_numpy("y"), EXPECTED)

    refused(lambda: client.infer("no-such-model", [x]), "404", "there is no model")
    refused(lambda: client.infer("linear", [x], model_version="9.0.0"), "404", "9.0.0")
    refused(lambda: client.infer("linear", [zero]), "400", "inputs.x", "expected shape [-1, 3]")
    refused(lambda: client.infer("linear", [tensor(http, "z", ROWS)]), "400", "inputs.z", "no such input")
    refused(lambda: client.infer("linear", [x], outputs=[http.InferRequestedOutput("z")]), "400", "outputs.z")
    refused(lambda: client.infer("linear", [x], sequence_id=7), "400", "sequence_id")
    refused(lambda: client.infer("linear", [x], timeout=1), "504", "deadline")
    refused(lambda: client.get_model_metadata("undeployed"), "503", "not deployed")
    refused(lambda: client.register_system_shared_memory("a", "/b", 8), "404")
    management(client, is_grpc=False)
    client.close()


async def over_rest_async(address):
    async with http_aio.InferenceServerClient(address) as client:
        assert await client.is_server_live() and await client.is_model_ready("linear")
        x = tensor(http_aio, "x", ROWS)
        results = await asyncio.gather(*[client.infer("linear", [x]) for _ in range(8)])
        for result in results:
            same(result.as_numpy("y"), EXPECTED)
        assert (await client.get_model_metadata("linear"))["name"] == "linear"


def over_grpc(address, datatypes):
    client = grpc.InferenceServerClient(address)
    for datatype in datatypes:
        array = values(datatype)
        result = client.infer(f"identity-{datatype.lower()}", [tensor(grpc, "x", array, datatype)])
        same(result.as_numpy("y"), array)
    x = tensor(grpc, "x", ROWS)
    result = client.infer("linear", [x], request_id="7", outputs=[grpc.InferRequestedOutput("y")])
    same(result.as_numpy("y"), EXPECTED)
    assert (result.get_response().id, result.get_response().model_version) == ("7", "1.0.0")
    for algorithm in ("gzip", "deflate"):
        same(client.infer("linear", [x], compression_algorithm=algorithm).as_numpy("y"), EXPECTED)
    classes = client.infer("linear", [x], outputs=[grpc.InferRequestedOutput("y", class_count=1)]).as_numpy("y")
    same(classes, np.array([["27.500000:1"], ["63.500000:1"]], dtype=np.object_))
    zero = tensor(grpc, "x", np.zeros(1, dtype=np.float32))
    assert client.infer("numbered", [zero]).as_numpy("y")[0] == 1
    assert client.infer("numbered", [zero], headers=staging()).as_numpy("y")[0] == 2
    large = tensor(grpc, "x", np.ones((100_000, 3), dtype=np.float32))
    same(client.infer("linear", [large]).as_numpy("y")[-1:], np.array([[9.5, 11.5]], dtype=np.float32))

    answers = queue.Queue()
    for _ in range(8):
        client.async_infer("linear", [x], callback=lambda result, error: answers.put((result, error)))
    for _ in range(8):
        result, error = answers.get(timeout=60)
        assert error is None, error
        same(result.as_numpy("y"), EXPECTED)
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    for number in range(20):
        # Every fifth is for a model that is not there: it fails, and the stream goes on.
        model = "no-such-model" if number % 5 == 4 else "linear"
        client.async_stream_infer(model, [x], request_id=str(number), enable_empty_final_response=True)
    for number in range(20):
        result, error = answers.get(timeout=60)
        if number % 5 == 4:
            assert "there is no model" in error.message(), error
            continue
        assert error is None, error
        same(result.as_numpy("y"), EXPECTED)
        response = result.get_response()
        assert response.id == str(number), "in the order of the requests"
        assert response.parameters["triton_final_response"].bool_param
    client.stop_stream()

    refused(lambda: client.infer("no-such-model", [x]), "NOT_FOUND", "there is no model")
    refused(lambda: client.infer("linear", [x], model_version="9.0.0"), "NOT_FOUND", "9.0.0")
    refused(lambda: client.infer("linear", [zero]), "INVALID_ARGUMENT", "expected shape [-1, 3]")
    refused(lambda: client.infer("linear", [x], sequence_id=7), "INVALID_ARGUMENT", "sequence_id")
    refused(lambda: client.infer("linear", [x], timeout=1), "DEADLINE_EXCEEDED", "deadline")
    same(client.infer("linear", [x], client_timeout=60).as_numpy("y"), EXPECTED)
    refused(lambda: client.get_model_metadata("undeployed"), "UNAVAILABLE", "not deployed")
    refused(lambda: client.register_system_shared_memory("a", "/b", 8), "UNIMPLEMENTED")
    too_large = tensor(grpc, "x", np.ones((1_500_000, 3), dtype=np.float32))
    refused(lambda: client.infer("linear", [too_large]), "RESOURCE_EXHAUSTED")
    management(client, is_grpc=True)
    client.close()


async def over_grpc_async(address):
    async with grpc_aio.InferenceServerClient(address) as client:
        assert await client.is_server_ready() and await client.is_model_ready("linear")
        x = tensor(grpc_aio, "x", ROWS)
        results = await asyncio.gather(*[client.infer("linear", [x]) for _ in range(8)])
        for result in results:
            same(result.as_numpy("y"), EXPECTED)

        async def requests():
            for number in range(10):
                yield {"model_name": "linear", "inputs": [x], "request_id": str(number)}

        ids = []
        async for result, error in client.stream_infer(requests()):
            assert error is None, error
            same(result.as_numpy("y"), EXPECTED)
            ids.append(result.get_response().id)
        assert ids == [str(number) for number in range(10)], ids


if __name__ == "__main__":
    where, names = sys.argv[1], sys.argv[2:]
    over_rest(where, names)
    print("rest", flush=True)
    asyncio.run(over_rest_async(where))
    print("rest, asyncio", flush=True)
    over_grpc(where, names)
    print("grpc", flush=True)
    asyncio.run(over_grpc_async(where))
    print("grpc, asyncio", flush=True)
