// What an app needs besides an engine: spec.json, where a picture lies in the network's input, decoding of raw
// head maps, suppression. C++17, no library. The same arithmetic as toolkit/models/decode.py and
// toolkit/boxes.py, which the project's tests hold it to.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

namespace toolkit {

// --- JSON ------------------------------------------------------------------------------------------------

// A value of a JSON document; `at` and `operator[]` throw std::runtime_error where there is no such value.
class Json {
public:
    enum class Kind { null, boolean, number, text, list, object };

    static Json parse(const std::string& text) {
        std::size_t position = 0;
        Json value = read(text, position, 0);
        skip(text, position);
        if (position != text.size()) fail("characters behind the document");
        return value;
    }

    bool has(const std::string& key) const { return kind_ == Kind::object && members_.count(key) > 0; }
    const Json& at(const std::string& key) const {
        if (!has(key)) fail("no " + key);
        return members_.at(key);
    }
    const std::vector<Json>& items() const {
        if (kind_ != Kind::list) fail("a list was expected");
        return items_;
    }
    const std::map<std::string, Json>& members() const {
        if (kind_ != Kind::object) fail("an object was expected");
        return members_;
    }
    double number() const {
        if (kind_ != Kind::number) fail("a number was expected");
        return number_;
    }
    bool boolean() const {
        if (kind_ != Kind::boolean) fail("true or false was expected");
        return number_ != 0;
    }
    const std::string& text() const {
        if (kind_ != Kind::text) fail("a text was expected");
        return text_;
    }

private:
    [[noreturn]] static void fail(const std::string& what) { throw std::runtime_error("spec.json: " + what); }

    static void skip(const std::string& s, std::size_t& i) {
        while (i < s.size() && (s[i] == ' ' || s[i] == '\n' || s[i] == '\r' || s[i] == '\t')) ++i;
    }

    static char next(const std::string& s, std::size_t& i) {
        skip(s, i);
        if (i >= s.size()) fail("it ends too early");
        return s[i];
    }

    static void expect(const std::string& s, std::size_t& i, char c) {
        if (next(s, i) != c) fail(std::string("expected ") + c);
        ++i;
    }

    static Json read(const std::string& s, std::size_t& i, int depth) {
        if (depth > 64) fail("it is nested too deeply");
        Json value;
        const char c = next(s, i);
        if (c == '{') {
            value.kind_ = Kind::object;
            ++i;
            if (next(s, i) == '}') return ++i, value;
            for (;;) {
                next(s, i);
                std::string key = read_text(s, i);
                expect(s, i, ':');
                value.members_[key] = read(s, i, depth + 1);
                if (next(s, i) == '}') return ++i, value;
                expect(s, i, ',');
            }
        }
        if (c == '[') {
            value.kind_ = Kind::list;
            ++i;
            if (next(s, i) == ']') return ++i, value;
            for (;;) {
                value.items_.push_back(read(s, i, depth + 1));
                if (next(s, i) == ']') return ++i, value;
                expect(s, i, ',');
            }
        }
        if (c == '"') {
            value.kind_ = Kind::text;
            value.text_ = read_text(s, i);
            return value;
        }
        for (const auto& [word, kind, number] : {std::tuple{"true", Kind::boolean, 1.0},
                                                 std::tuple{"false", Kind::boolean, 0.0},
                                                 std::tuple{"null", Kind::null, 0.0}}) {
            if (s.compare(i, std::string(word).size(), word) == 0) {
                i += std::string(word).size();
                value.kind_ = kind;
                value.number_ = number;
                return value;
            }
        }
        const char* begin = s.c_str() + i;
        char* end = nullptr;
        value.kind_ = Kind::number;
        value.number_ = std::strtod(begin, &end);
        if (end == begin) fail("a value was expected");
        i += static_cast<std::size_t>(end - begin);
        return value;
    }

    static std::string read_text(const std::string& s, std::size_t& i) {
        expect(s, i, '"');
        std::string out;
        while (i < s.size() && s[i] != '"') {
            if (s[i] != '\\') {
                out += s[i++];
                continue;
            }
            const char escape = ++i < s.size() ? s[i++] : '\0';
            switch (escape) {
                case 'n': out += '\n'; break;
                case 't': out += '\t'; break;
                case 'r': out += '\r'; break;
                case 'b': out += '\b'; break;
                case 'f': out += '\f'; break;
                case 'u': append_utf8(out, read_unit(s, i), s, i); break;
                default: out += escape;
            }
        }
        if (i >= s.size()) fail("a text does not end");
        ++i;
        return out;
    }

    static unsigned read_unit(const std::string& s, std::size_t& i) {
        if (i + 4 > s.size()) fail("a text does not end");
        const unsigned unit = static_cast<unsigned>(std::strtoul(s.substr(i, 4).c_str(), nullptr, 16));
        i += 4;
        return unit;
    }

    static void append_utf8(std::string& out, unsigned code, const std::string& s, std::size_t& i) {
        if (code >= 0xD800 && code < 0xDC00 && s.compare(i, 2, "\\u") == 0) {  // the first half of a pair
            i += 2;
            code = 0x10000 + ((code - 0xD800) << 10) + (read_unit(s, i) - 0xDC00);
        }
        if (code < 0x80) {
            out += static_cast<char>(code);
            return;
        }
        const int rest = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
        static const unsigned lead[] = {0, 0xC0, 0xE0, 0xF0};
        out += static_cast<char>(lead[rest] | (code >> (6 * rest)));
        for (int k = rest - 1; k >= 0; --k) out += static_cast<char>(0x80 | ((code >> (6 * k)) & 0x3F));
    }

    Kind kind_ = Kind::null;
    double number_ = 0;
    std::string text_;
    std::vector<Json> items_;
    std::map<std::string, Json> members_;
};

// --- what a network takes and gives ----------------------------------------------------------------------

enum class Channels { rgb, bgr, grey };

// (pixel - mean) * scale.
struct Input {
    int width = 0, height = 0;
    Channels channels = Channels::rgb;
    bool letterbox = false;  // else stretched
    float mean = 0, scale = 1.f / 255;
};

// One output map: cells of `stride` px, anchors (w, h) in px of the network's input. The channels of an anchor
// are x, y, w, h, of a Gaussian head with an uncertainty behind each, the objectness and the classes.
struct Head {
    int stride = 0;
    std::vector<std::array<float, 2>> anchors;
    float scale_x_y = 1;
    bool new_coords = false;
    bool softmax = false;  // the classes exclude each other
    bool gaussian = false;

    // Channels of an anchor before its classes.
    int values() const { return gaussian ? 9 : 5; }
};

// A detector: its input is the whole picture.
struct Spec {
    std::string name;
    Input input;
    std::vector<std::string> classes;
    std::vector<Head> heads;  // in the order of the outputs, coarsest first
    float threshold = 0.25f;
};

// A landmark network: its input is a window around a face's box of w x h, from the box's centre crop[0] w to
// the left and to the right, crop[1] h up and crop[2] h down.
struct LandmarkSpec {
    std::string name;
    Input input;
    int points = 0;
    std::array<float, 3> crop{};
};

// Which of the texts that this program knows `key` has.
inline std::size_t choice(const Json& io, const std::string& key, const std::vector<std::string>& known) {
    const auto place = std::find(known.begin(), known.end(), io.at(key).text());
    if (place != known.end()) return static_cast<std::size_t>(place - known.begin());
    std::string list;
    for (const std::string& text : known) list += (list.empty() ? "" : ", ") + text;
    throw std::runtime_error("spec.json: " + key + " is " + io.at(key).text() + ", and this program knows " + list +
                             ": build it from a newer toolkit");
}

// What a newer toolkit may say of a network changes its boxes: better none than wrong ones.
inline void check_keys(const Json& object, const std::vector<std::string>& known) {
    for (const auto& member : object.members())
        if (std::find(known.begin(), known.end(), member.first) == known.end())
            throw std::runtime_error("spec.json: this program does not know " + member.first +
                                     ": build it from a newer toolkit");
}

inline Input read_input(const Json& io, const std::vector<std::string>& orders) {
    Input input;
    input.width = static_cast<int>(io.at("input_size").items().at(0).number());
    input.height = static_cast<int>(io.at("input_size").items().at(1).number());
    input.channels = static_cast<Channels>(choice(io, "channel_order", orders));
    input.letterbox = io.has("fit") && choice(io, "fit", {"stretch", "letterbox"}) == 1;  // older ones do not say
    input.mean = static_cast<float>(io.at("mean").number());
    input.scale = static_cast<float>(io.at("scale").number());
    return input;
}

inline Spec read_spec(const Json& document) {
    const Json& io = document.at("io");
    Spec spec;
    spec.name = document.at("name").text();
    if (io.has("points"))
        throw std::runtime_error(spec.name + " places landmarks and finds no objects: name it with --landmarks");
    check_keys(io, {"input_size", "classes", "heads", "stride", "channel_order", "mean", "scale", "fit"});
    spec.input = read_input(io, {"RGB", "BGR", "GRAY"});
    for (const Json& name : io.at("classes").items()) spec.classes.push_back(name.text());
    for (const Json& entry : io.at("heads").items()) {
        check_keys(entry, {"stride", "anchors", "scale_x_y", "new_coords", "softmax", "gaussian"});
        Head head;
        head.stride = static_cast<int>(entry.at("stride").number());
        for (const Json& anchor : entry.at("anchors").items())
            head.anchors.push_back({static_cast<float>(anchor.items().at(0).number()),
                                    static_cast<float>(anchor.items().at(1).number())});
        head.scale_x_y = static_cast<float>(entry.at("scale_x_y").number());
        head.new_coords = entry.at("new_coords").boolean();
        head.softmax = entry.has("softmax") && entry.at("softmax").boolean();
        head.gaussian = entry.has("gaussian") && entry.at("gaussian").boolean();
        spec.heads.push_back(head);
    }
    spec.threshold = static_cast<float>(document.at("threshold").number());
    return spec;
}

inline LandmarkSpec read_landmark_spec(const Json& document) {
    const Json& io = document.at("io");
    LandmarkSpec spec;
    spec.name = document.at("name").text();
    if (io.has("heads"))
        throw std::runtime_error(spec.name + " finds objects and places no landmarks: name it without --landmarks");
    check_keys(io, {"input_size", "points", "crop", "channel_order", "mean", "scale"});
    spec.input = read_input(io, {"RGB", "BGR"});
    spec.points = static_cast<int>(io.at("points").number());
    for (std::size_t i = 0; i < spec.crop.size(); ++i)
        spec.crop[i] = static_cast<float>(io.at("crop").items().at(i).number());
    return spec;
}

// --- pictures --------------------------------------------------------------------------------------------

enum class Pixels { rgb, bgr, rgba };

// Where a picture lies in the input: `width` x `height` px of it, from `left` and `top` on.
struct Placement {
    int width, height, left, top;
};

// Of a picture of width x height. A letterbox keeps its proportions and is centred, by darknet's integers.
inline Placement placement(const Input& in, int width, int height) {
    if (!in.letterbox) return {in.width, in.height, 0, 0};
    const auto scaled = [](int side, int to, int from) { return static_cast<int>(std::int64_t{side} * to / from); };
    const bool wide = static_cast<double>(in.width) / width < static_cast<double>(in.height) / height;
    const int w = wide ? in.width : std::max(1, scaled(width, in.height, height));
    const int h = wide ? std::max(1, scaled(height, in.width, width)) : in.height;
    return {w, h, (in.width - w) / 2, (in.height - h) / 2};
}

// The luminance of a picture of width x height, `step` bytes a row, without gaps; as OpenCV's.
inline std::vector<unsigned char> luminance(const unsigned char* pixels, Pixels order, int width, int height,
                                            int step) {
    const int size = order == Pixels::rgba ? 4 : 3, red = order == Pixels::bgr ? 2 : 0, blue = 2 - red;
    std::vector<unsigned char> grey(static_cast<std::size_t>(width) * static_cast<std::size_t>(height));
    auto target = grey.begin();
    for (int y = 0; y < height; ++y) {
        const unsigned char* pixel = pixels + static_cast<std::ptrdiff_t>(y) * step;
        for (int x = 0; x < width; ++x, pixel += size)  // 0.299, 0.587 and 0.114 times 32768
            *target++ = static_cast<unsigned char>(
                (9798 * pixel[red] + 19235 * pixel[1] + 3735 * pixel[blue] + 16384) >> 15);
    }
    return grey;
}

// --- boxes -----------------------------------------------------------------------------------------------

// Corners relative to the network's input, and after `to_picture` to the picture, 0..1, not clipped;
// score = objectness x class probability.
struct Detection {
    float x1, y1, x2, y2, score;
    int label;
};

constexpr float LARGEST = 20;  // of tw and th: boxes stay finite

inline void softmax(std::vector<float>& values) {
    const float most = *std::max_element(values.begin(), values.end());
    float sum = 0;
    for (float& value : values) sum += value = std::exp(value - most);
    for (float& value : values) value /= sum;
}

// The candidates of one raw map, appended to `found`. `map`: channels A * (values + classes), each h rows of w,
// `channel_step` floats apart. A cell counts where its objectness is above `conf`, a class there where the
// score is above `conf`.
inline void decode(const float* map, int w, int h, std::size_t channel_step, const Head& head,
                   int classes, float conf, std::vector<Detection>& found) {
    const auto squash = [&](float v) { return head.new_coords ? v : 1 / (1 + std::exp(-v)); };
    const float s = head.scale_x_y;
    const int values = head.values(), stride = head.gaussian ? 2 : 1;  // from a number of the box to the next
    std::vector<float> shares(static_cast<std::size_t>(classes));
    for (std::size_t a = 0; a < head.anchors.size(); ++a) {
        const float* first = map + a * static_cast<std::size_t>(values + classes) * channel_step;
        const float across = static_cast<float>(w), down = static_cast<float>(h);
        const float anchor_w = head.anchors[a][0] / across / static_cast<float>(head.stride);
        const float anchor_h = head.anchors[a][1] / down / static_cast<float>(head.stride);
        for (int row = 0; row < h; ++row) {
            for (int column = 0; column < w; ++column) {
                const float* cell = first + row * w + column;
                const auto at = [&](int channel) { return cell[static_cast<std::size_t>(channel) * channel_step]; };
                const float objectness = squash(at(values - 1));
                if (!(objectness > conf)) continue;
                const float left = static_cast<float>(column) - (s - 1) / 2;
                const float top = static_cast<float>(row) - (s - 1) / 2;
                const float x = (squash(at(0)) * s + left) / across;
                const float y = (squash(at(stride)) * s + top) / down;
                const float tw = at(2 * stride), th = at(3 * stride);
                const float bw = (head.new_coords ? 4 * tw * tw : std::exp(std::min(tw, LARGEST))) * anchor_w;
                const float bh = (head.new_coords ? 4 * th * th : std::exp(std::min(th, LARGEST))) * anchor_h;
                float certainty = 1;
                for (int k = 1; head.gaussian && k < 8; k += 2) certainty -= squash(at(k)) / 4;
                for (int c = 0; c < classes; ++c) shares[static_cast<std::size_t>(c)] = at(values + c);
                if (head.softmax) softmax(shares);
                else std::transform(shares.begin(), shares.end(), shares.begin(), squash);
                for (int c = 0; c < classes; ++c) {
                    const float score = objectness * shares[static_cast<std::size_t>(c)] * certainty;
                    if (score > conf)
                        found.push_back({x - bw / 2, y - bh / 2, x + bw / 2, y + bh / 2, score, c});
                }
            }
        }
    }
}

inline float iou(const Detection& a, const Detection& b) {
    const float w = std::min(a.x2, b.x2) - std::max(a.x1, b.x1);
    const float h = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
    if (w <= 0 || h <= 0) return 0;
    const float shared = w * h;
    return shared / ((a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - shared);
}

// Greedy suppression within each class: what overlaps a kept box by more than `threshold` goes. By falling
// score.
inline std::vector<Detection> suppress(std::vector<Detection> found, float threshold = 0.45f) {
    std::stable_sort(found.begin(), found.end(),
                     [](const Detection& a, const Detection& b) { return a.score > b.score; });
    std::vector<Detection> kept;
    for (const Detection& candidate : found) {
        const auto covers = [&](const Detection& k) {
            return k.label == candidate.label && iou(k, candidate) > threshold;
        };
        if (std::none_of(kept.begin(), kept.end(), covers)) kept.push_back(candidate);
    }
    return kept;
}

// Corners relative to the network's input -> relative to the picture.
inline void to_picture(std::vector<Detection>& found, const Input& in, const Placement& place) {
    const float across = static_cast<float>(in.width) / static_cast<float>(place.width);
    const float down = static_cast<float>(in.height) / static_cast<float>(place.height);
    const float left = static_cast<float>(place.left) / static_cast<float>(place.width);
    const float top = static_cast<float>(place.top) / static_cast<float>(place.height);
    for (Detection& d : found)
        d = {d.x1 * across - left, d.y1 * down - top, d.x2 * across - left, d.y2 * down - top, d.score, d.label};
}

}  // namespace toolkit
