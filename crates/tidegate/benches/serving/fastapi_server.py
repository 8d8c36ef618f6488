"""The peer of the bench `serving`: FastAPI and ONNX Runtime, written the way that somebody does who wants it fast.

uvicorn with uvloop and httptools; a process for each core, each with one session of one thread, which on few cores gives the
most requests a second; bodies read and written by orjson, without pydantic models; the model runs where the request is, since
handing it to a thread costs more than it gains with one session for each process. Speaks as much of the Open Inference
Protocol as the bench asks for: JSON, and binary tensors.
"""

import os

import numpy
import onnxruntime
import orjson
from fastapi import FastAPI, Request, Response

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
outputs = [output.name for output in session.get_outputs()]
datatypes = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "int32": "INT32", "uint8": "UINT8", "bool": "BOOL"}

app = FastAPI(openapi_url=None)


@app.get("/v2/health/ready")
async def ready():
    return {"ready": True}


@app.post("/v2/models/bench/infer")
async def infer(request: Request):
    body = await request.body()
    length = request.headers.get("inference-header-content-length")
    head = orjson.loads(body if length is None else body[: int(length)])
    feed, start = {}, int(length or 0)
    for tensor in head["inputs"]:
        if length is None:
            values = numpy.array(tensor["data"], dtype=numpy.float32)
        else:
            size = tensor["parameters"]["binary_data_size"]
            values = numpy.frombuffer(body, dtype=numpy.float32, count=size // 4, offset=start)
            start += size
        feed[tensor["name"]] = values.reshape(tensor["shape"])
    answers = [numpy.ascontiguousarray(answer) for answer in session.run(outputs, feed)]
    described = [
        {"name": name, "datatype": datatypes[answer.dtype.name], "shape": answer.shape}
        for name, answer in zip(outputs, answers)
    ]
    answer = {"model_name": "bench", "model_version": "1", "outputs": described}
    if length is None:
        for tensor, values in zip(described, answers):
            tensor["data"] = values.ravel()
        content = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(content, media_type="application/json")
    for tensor, values in zip(described, answers):
        tensor["parameters"] = {"binary_data_size": values.nbytes}
    header = orjson.dumps(answer)
    headers = {"Inference-Header-Content-Length": str(len(header))}
    content = b"".join([header, *(values.tobytes() for values in answers)])
    return Response(content, headers=headers, media_type="application/octet-stream")
