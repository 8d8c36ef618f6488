class RasterFunction:
    """Pixel classification for ArcGIS, driven by the .emd beside this file. Nothing of one model is written here."""

    def __init__(self):
        self.name = "Pixel classifier"
        self.description = "Classifies pixels with the model of a deep learning package."
        self.emd = {}
        self.model = None

    def initialize(self, **kwargs):
        """Called first, and again for each process. `model` is the path of the .emd, or its text."""
        definition = kwargs.get("model")
        if not definition:
            return
        folder = os.path.dirname(os.path.abspath(__file__))
        if definition.lstrip().startswith("{"):
            self.emd = json.loads(definition)
        else:
            with open(definition, encoding="utf-8") as file:
                self.emd = json.load(file)
            folder = os.path.dirname(os.path.abspath(definition))
        self.model_path = os.path.join(folder, self.emd["ModelFile"])
        # -2: any GPU, -1: the CPU, otherwise the GPU of that number.
        device = kwargs.get("device")
        self.device = -1 if device is None else int(device)
        self.model = None
        require_runtime()
        self.getConfiguration()

    def getParameterInfo(self):
        parameters = [
            {
                "name": "raster",
                "dataType": "raster",
                "value": None,
                "required": True,
                "displayName": "Raster",
                "description": "The imagery to classify.",
            },
            {
                "name": "model",
                "dataType": "string",
                "value": None,
                "required": True,
                "displayName": "Model definition",
                "description": "The Esri model definition (.emd) of the package.",
            },
            {
                "name": "device",
                "dataType": "numeric",
                "value": -1,
                "required": False,
                "displayName": "Device ID",
                "description": "-1 for the CPU, 0 for the first GPU.",
            },
            {
                "name": "padding",
                "dataType": "numeric",
                "value": self.emd.get("Padding", 0),
                "required": False,
                "displayName": "Padding",
                "description": "Pixels around each tile that the model sees and the result leaves out: hides tile edges.",
            },
            {
                "name": "BatchSize",
                "dataType": "numeric",
                "value": self.emd.get("BatchSize", 1),
                "required": False,
                "displayName": "Batch size",
                "description": "Tiles for each run of the model. Changes the speed, not the result.",
            },
        ]
        if "Threshold" in self.emd:
            parameters.append(
                {
                    "name": "Threshold",
                    "dataType": "numeric",
                    "value": self.emd["Threshold"],
                    "required": False,
                    "displayName": "Threshold",
                    "description": "A pixel belongs to the class from this probability on, 0 to 1.",
                }
            )
        return parameters

    def getConfiguration(self, **scalars):
        """Takes the parameters and says how large the blocks are: a rectangle of tiles, one for each of the batch."""
        height, width = self.emd["ImageHeight"], self.emd["ImageWidth"]
        largest = (min(height, width) - 1) // 2
        self.padding = whole_number(self.setting(scalars, "padding", self.emd.get("Padding", 0)), "padding", 0, largest)
        batch = self.setting(scalars, "batch_size", self.emd.get("BatchSize", 1))
        self.batch_size = whole_number(batch, "batch_size", 1, 4096)
        self.threshold = float(self.setting(scalars, "threshold", self.emd.get("Threshold", 0.5)))
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError("threshold is {}: give a probability from 0 to 1".format(self.threshold))
        rows = max(n for n in range(1, int(self.batch_size**0.5) + 1) if self.batch_size % n == 0)
        columns = self.batch_size // rows
        return {
            "extractBands": tuple(self.emd["ExtractBands"]),
            "padding": self.padding,
            "batch_size": self.batch_size,
            "tx": (width - 2 * self.padding) * columns,
            "ty": (height - 2 * self.padding) * rows,
            "fixedTileSize": 1,
            "inputMask": True,
            # The dimensions and the resampling; neither the pixel type nor a NoData value, which could be a class.
            "inheritProperties": 4 | 8,
        }

    def updateRasterInfo(self, **kwargs):
        output = kwargs["output_info"]
        output["bandCount"] = 1
        output["pixelType"] = "u1" if max(entry["Value"] for entry in self.emd["Classes"]) < 256 else "u2"
        # Where there is no imagery is told by the mask.
        output["noData"] = None
        output["statistics"] = ()
        output["histogram"] = ()
        output["rasterAttributeTable"] = json.dumps(attribute_table(self.emd["Classes"]))
        return kwargs

    def updatePixels(self, tlc, shape, props, **pixelBlocks):
        """`raster_pixels` is the block with its padding, (bands, rows, columns); the output has no padding, as `shape`."""
        pixels = np.array(pixelBlocks["raster_pixels"])
        if pixels.ndim == 2:
            pixels = pixels[np.newaxis]
        rows, columns = int(shape[-2]), int(shape[-1])
        top, left = (pixels.shape[1] - rows) // 2, (pixels.shape[2] - columns) // 2
        mask = pixelBlocks.get("raster_mask")
        valid = np.ones(pixels.shape[1:], dtype=bool)
        if mask is not None:
            mask = np.broadcast_to(np.asarray(mask) != 0, pixels.shape)
            # What lies under a mask is arbitrary.
            pixels[~mask] = 0
            valid = mask.any(axis=0)
            pixels = mirrored(pixels, valid)

        classes = np.zeros((rows, columns), dtype=np.int64)
        inner = valid[top : top + rows, left : left + columns]
        if inner.any():
            classes = self.classify(pixels, valid)[top : top + rows, left : left + columns]
            classes[~inner] = 0
        out_shape = (rows, columns) if len(shape) == 2 else (1, rows, columns)
        pixelBlocks["output_pixels"] = classes.reshape(out_shape).astype(props["pixelType"], copy=False)
        pixelBlocks["output_mask"] = inner.reshape(out_shape).astype("u1", copy=False)
        return pixelBlocks

    def classify(self, pixels, valid):
        """The class of every pixel of a padded block. Each tile gives its inner part; those at the rim give the rim, too."""
        height, width = self.emd["ImageHeight"], self.emd["ImageWidth"]
        tiles = [
            (top, left)
            for top in starts(pixels.shape[1], height, self.padding)
            for left in starts(pixels.shape[2], width, self.padding)
            if valid[top : top + height, left : left + width].any()
        ]
        classes = np.zeros(pixels.shape[1:], dtype=np.int64)
        fixed = self.emd["ModelParameters"].get("Batch")
        step = fixed or self.batch_size
        for first in range(0, len(tiles), step):
            chunk = tiles[first : first + step]
            batch = [self.tile(pixels, top, left) for top, left in chunk]
            if fixed:
                batch += [batch[-1]] * (fixed - len(batch))
            scores = self.run(np.stack(batch))
            for (top, left), tile_scores in zip(chunk, scores):
                found = self.decide(tile_scores)
                y0, y1, from_y = inner_span(top, height, self.padding, pixels.shape[1])
                x0, x1, from_x = inner_span(left, width, self.padding, pixels.shape[2])
                classes[y0:y1, x0:x1] = found[from_y : from_y + y1 - y0, from_x : from_x + x1 - x0]
        return classes

    def tile(self, pixels, top, left):
        """One tile in the model's size, scaled as the model was trained; mirrored beyond the block."""
        height, width = self.emd["ImageHeight"], self.emd["ImageWidth"]
        part = pixels[:, top : top + height, left : left + width]
        part = np.pad(part, ((0, 0), (0, height - part.shape[1]), (0, width - part.shape[2])), mode="reflect")
        scaled = np.empty(part.shape, dtype=np.float64)
        for band, scaling in enumerate(self.emd["ModelParameters"]["ValueScaling"]):
            scaled[band] = scale(part[band].astype(np.float64), scaling)
        return scaled

    def run(self, batch):
        """Scores as (tiles, channels, rows, columns), activated exactly as the model's item says."""
        parameters = self.emd["ModelParameters"]
        if parameters["DimOrder"] == "bhwc":
            batch = batch.transpose(0, 2, 3, 1)
        if parameters["DataType"] == "uint8":
            batch = np.clip(np.floor(batch + 0.5), 0, 255)
        if self.model is None:
            self.model = load_model(self.model_path, self.device)
        output = np.asarray(self.model(np.ascontiguousarray(batch.astype(parameters["DataType"]))))
        if output.ndim == 3:
            output = output[:, np.newaxis]
        elif parameters["OutputDimOrder"] == "bhwc":
            output = output.transpose(0, 3, 1, 2)
        expected = (self.emd["ImageHeight"], self.emd["ImageWidth"])
        if output.shape[2:] != expected:
            raise ValueError("the model gave {} pixels for {}: the .emd is of another model".format(output.shape[2:], expected))
        output = output.astype(np.float32)
        activation = parameters["Activation"]
        if activation == "sigmoid":
            return 1 / (1 + np.exp(-output))
        if activation == "softmax":
            powers = np.exp(output - output.max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True)
        return output

    def decide(self, scores):
        """Class values: by the threshold for one channel, by the highest score for several."""
        values = np.array(self.emd["ModelParameters"]["OutputValues"])
        if len(scores) == 1:
            return np.where(scores[0] >= np.float32(self.threshold), values[1], values[0])
        return values[scores.argmax(axis=0)]

    @staticmethod
    def setting(scalars, name, default):
        """By Esri's spelling, `batch_size`, or else by any other, `BatchSize`. Empty counts as not given."""
        given = {key: value for key, value in scalars.items() if value not in (None, "")}
        if name in given:
            return given[name]
        wanted = name.replace("_", "")
        others = [value for key, value in given.items() if key.replace("_", "").lower() == wanted]
        return others[0] if others else default


def starts(length, tile, padding):
    """Where tiles begin along one axis, so that their inner parts cover it. The last ends with the block."""
    step = tile - 2 * padding
    if length <= tile:
        return [0]
    last = length - tile
    return list(range(0, last, step)) + [last]


def inner_span(start, tile, padding, length):
    """What a tile gives, from and to in the block, and where that begins in the tile."""
    first = start if start == 0 else start + padding
    end = min(start + tile, length)
    return first, end if end == length else end - padding, first - start


def mirrored(pixels, valid):
    """Beyond the imagery its mirror image instead of black, which models take for something: shadows, water."""
    rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
    if len(rows) == 0:
        return pixels
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    beyond = ((0, 0), (top, pixels.shape[1] - bottom), (left, pixels.shape[2] - right))
    return np.pad(pixels[:, top:bottom, left:right], beyond, mode="reflect")


def scale(values, scaling):
    """STAC-MLM's value scaling of one band."""
    kind = scaling["type"]
    if kind is None:
        return values
    if kind == "min-max":
        return (values - scaling["minimum"]) / (scaling["maximum"] - scaling["minimum"])
    if kind == "z-score":
        return (values - scaling["mean"]) / scaling["stddev"]
    if kind == "clip":
        return np.clip(values, scaling["minimum"], scaling["maximum"])
    if kind == "clip-min":
        return np.maximum(values, scaling["minimum"])
    if kind == "clip-max":
        return np.minimum(values, scaling["maximum"])
    if kind == "offset":
        return values - scaling["value"]
    if kind == "scale":
        return values / scaling["value"]
    raise ValueError("value scaling `{}` is not known: make the package again".format(kind))


def whole_number(value, name, smallest, largest):
    """ArcGIS passes numbers as text or as floating point."""
    number = int(float(value))
    if not smallest <= number <= largest:
        raise ValueError("{} is {}: give {} to {}".format(name, value, smallest, largest))
    return number


def attribute_table(classes):
    """The classes as ArcGIS shows them in the legend."""
    kinds = [("OID", "OID"), ("Value", "Integer"), ("Class", "String"), ("Red", "Integer"), ("Green", "Integer"), ("Blue", "Integer")]
    rows = []
    for index, entry in enumerate(classes):
        red, green, blue = entry["Color"]
        attributes = {"OID": index + 1, "Value": entry["Value"], "Class": entry["Name"]}
        attributes.update({"Red": red, "Green": green, "Blue": blue})
        rows.append({"attributes": attributes})
    return {
        "displayFieldName": "",
        "fieldAliases": {name: name for name, _ in kinds},
        "fields": [{"name": name, "type": "esriFieldType" + kind, "alias": name} for name, kind in kinds],
        "features": rows,
    }
