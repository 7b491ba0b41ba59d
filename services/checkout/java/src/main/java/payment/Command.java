package payment;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.time.OffsetDateTime;
import java.time.format.DateTimeParseException;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.header.Header;

/** A record of payment.commands, read. Whatever of it cannot be read is asked for last, so that its sender can be told. */
final class Command {
    static final String TAKE = "payment.take_payment.v1";
    static final String RETURN = "payment.return_payment.v1";
    static final ObjectMapper JSON = JsonMapper.builder()
            .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            .disable(JsonParser.Feature.INCLUDE_SOURCE_IN_LOCATION)
            .build();

    /** A record that no try will ever make work: {@code reason} is the word for its dead letter. */
    static final class Unreadable extends Exception {
        private static final long serialVersionUID = 1L;
        final String reason;

        Unreadable(String reason, String detail) {
            super(detail);
            this.reason = reason;
        }
    }

    final ConsumerRecord<byte[], byte[]> record;
    final Map<String, String> headers;

    private Command(ConsumerRecord<byte[], byte[]> record, Map<String, String> headers) {
        this.record = record;
        this.headers = headers;
    }

    static Command of(ConsumerRecord<byte[], byte[]> record) throws Unreadable {
        Map<String, String> found = new LinkedHashMap<>();
        for (Header header : record.headers()) {
            String name = header.key();
            if (!name.startsWith("ce_") && !name.equals("traceparent")) {
                continue;
            }
            try {
                byte[] raw = header.value() == null ? new byte[0] : header.value();
                String text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(raw)).toString();
                if (found.put(name, text) != null) {
                    throw new Unreadable("doubled-header", name + " stands twice");
                }
            } catch (CharacterCodingException error) {
                throw new Unreadable("header-encoding", name + " is not UTF-8");
            }
        }
        return new Command(record, found);
    }

    String header(String name) {
        return headers.getOrDefault(name, "");
    }

    String id() {
        return header("ce_sagacommand");
    }

    /** The id of the execute command that this is about; its own, if it is one. */
    String executeId() {
        return executes() ? id() : header("ce_sagasubject");
    }

    boolean executes() {
        return header("ce_sagaaction").equals("execute");
    }

    boolean hasAddress() {
        return named(id()) && named(header("ce_sagainstance")) && header("ce_sagaattempt").matches("[0-9]{1,9}");
    }

    String origin() {
        return record.topic() + ":" + record.partition() + ":" + record.offset();
    }

    /** When it was first decided, ms since 1970. */
    long decided() throws Unreadable {
        try {
            return OffsetDateTime.parse(header("ce_time")).toInstant().toEpochMilli();
        } catch (DateTimeParseException error) {
            throw new Unreadable("time", "ce_time is no RFC 3339 time: " + header("ce_time"));
        }
    }

    /** When the run started whose execute command this is about, ms since 1970; 0 if its id does not say. */
    long started() {
        String[] parts = executeId().split(":");
        try {
            return parts.length > 2 ? Long.parseLong(parts[2], 36) : 0;
        } catch (NumberFormatException error) {
            return 0;
        }
    }

    /** Raises Unreadable unless this is a command of ours that can be answered. */
    void check() throws Unreadable {
        if (!hasAddress()) {
            throw new Unreadable("no-address", "nobody could be answered");
        }
        String action = switch (header("ce_type")) {
            case TAKE -> "execute";
            case RETURN -> "compensate";
            default -> throw new Unreadable("unknown-type", "payment does not take " + header("ce_type"));
        };
        if (!action.equals(header("ce_sagaaction"))) {
            throw new Unreadable("action", header("ce_type") + " with ce_sagaaction " + header("ce_sagaaction"));
        }
        if (!named(executeId())) {
            throw new Unreadable("subject", "a compensation needs ce_sagasubject");
        }
        decided();
    }

    /** The value, with the fields that its type has; others are ignored. */
    JsonNode value() throws Unreadable {
        JsonNode value;
        try {
            value = JSON.readTree(record.value() == null ? new byte[0] : record.value());
        } catch (JsonProcessingException error) {
            throw new Unreadable("json", error.getOriginalMessage());
        } catch (IOException error) {
            throw new Unreadable("json", error.toString());
        }
        JsonNode minor = value.at("/amount/minor");
        boolean valid = value.path("order_id").isTextual();
        if (header("ce_type").equals(TAKE)) {
            valid &= value.path("card").isTextual() && minor.canConvertToLong() && minor.isIntegralNumber() && minor.asLong() >= 0;
            valid &= value.at("/amount/currency").isTextual();
        }
        if (!valid) {
            throw new Unreadable("schema", "not a valid " + header("ce_type"));
        }
        return value;
    }

    private static boolean named(String id) {
        return !id.isEmpty() && id.length() <= 1000;
    }
}
