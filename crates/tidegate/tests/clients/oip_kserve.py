"""Talks to a server with KServe's client, over REST and gRPC. Started by tests/it/oip.rs.

    python oip_kserve.py HOST:PORT

The server has `linear` (y = x W + b) and `identity-fp16`. Any failed check ends this with an error.
"""

import asyncio
import sys

import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

ROWS = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)
EXPECTED = np.array([[22.5, 27.5], [49.5, 63.5]], dtype=np.float32)


def request(array, datatype, binary, model="linear"):
    tensor = InferInput("x", list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    outputs = [RequestedOutput("y", parameters={"binary_data": binary})]
    return InferRequest(model, [tensor], request_id="mine", request_outputs=outputs)


async def over_rest(url):
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(url) and await client.is_server_ready(url)
    assert await client.is_model_ready(url, "linear") and not await client.is_model_ready(url, "undeployed")
    for binary in (True, False):
        answer = await client.infer(url, request(ROWS, "FP32", binary), model_name="linear")
        assert answer.id == "mine" and answer.model_name == "linear", answer
        assert np.array_equal(answer.outputs[0].as_numpy(), EXPECTED), answer
    half = np.array([[0.5, 1, 2]], dtype=np.float16)
    answer = await client.infer(url, request(half, "FP16", True, "identity-fp16"), model_name="identity-fp16")
    assert np.array_equal(answer.outputs[0].as_numpy(), half), answer
    plain = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [[1, 2, 3]]}]}
    answer = await client.infer(url, plain, model_name="linear")
    assert answer.outputs[0].data == [22.5, 27.5] and answer.id, answer
    try:
        await client.infer(url, plain, model_name="no-such-model")
    except httpx.HTTPStatusError as error:
        assert "there is no model `no-such-model`" in str(error) and "404" in str(error), error
    else:
        raise AssertionError("a model that is not there was answered for")
    await client.close()


async def over_grpc(address):
    client = InferenceGRPCClient(address)
    assert await client.is_server_live() and await client.is_server_ready()
    assert await client.is_model_ready("linear") and not await client.is_model_ready("undeployed")
    for binary in (True, False):
        answer = await client.infer(request(ROWS, "FP32", binary))
        assert answer.id == "mine" and np.array_equal(answer.outputs[0].as_numpy(), EXPECTED), answer
    await client.close()


if __name__ == "__main__":
    asyncio.run(over_rest(f"http://{sys.argv[1]}"))
    print("rest", flush=True)
    asyncio.run(over_grpc(sys.argv[1]))
    print("grpc", flush=True)
